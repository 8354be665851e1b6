"""Class names that lie beside a data set, because its list is not shipped."""

from pathlib import Path

from lexiseg.data.class_files import Words, parse_classes
from lexiseg.data.datasets.files import layout_error
from lexiseg.errors import DataError
from lexiseg.storage import tell_unreadable

NumberedWords = tuple[tuple[int | None, ...], Words]
"""Per class the number before its name, if there is one, and its words."""


def read_class_list(path: Path, count: int, *, root: Path, title: str, tree: str) -> NumberedWords:
    """Read ``NAME; SYNONYM`` or ``NUMBER: NAME; SYNONYM`` one class a line, in label-id order.

    Commas belong to a name, so the published lists of ADE20K, whose names are "car, auto, automobile", serve as they are.
    A synonym may stand in several classes, as "kitchen range" does there; a name may not.

    Args:
        path: A UTF-8 text file; lines that start with ``#`` and blank ones at its end do not count.
        count: How many classes the data set has.
        root: Where the data set lies, for a message.
        title: Its name.
        tree: Its layout.

    Raises:
        DataError: No such file, another number of classes, or a name that stands twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise layout_error(root, tell_unreadable(path, error), title=title, tree=tree) from error
    parts = [_parted(line) for line in lines if not line.lstrip().startswith("#")]
    words = parse_classes((text for _, text in parts), str(path), shared=True)
    if len(words) != count:
        raise DataError(
            f"{path} lists {len(words)} classes; {title} has {count}, one a line in the order of their ids"
        )
    names = [group[0] for group in words]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"{path}: '{twice}' is the name of two classes; write all words of such a class as one name: 'bag, handbag'"
        )
    return tuple(number for number, _ in parts), words


def _parted(line: str) -> tuple[int | None, str]:
    """``12: wall`` to its number and its name."""
    head, colon, tail = line.partition(":")
    return (int(head), tail) if colon and head.strip().isdecimal() else (None, line)
