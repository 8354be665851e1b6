"""Class-name files: one class a line in label-id order, synonyms after semicolons."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from lexiseg.constants import IGNORE_INDEX
from lexiseg.errors import DataError

Words = tuple[tuple[str, ...], ...]
"""Per class its name and then its synonyms."""


def read_class_file(path: str | Path) -> Words:
    """Read a class file such as ``cat; kitten`` one class a line; the line number is the label id.

    Lines that start with ``#`` are comments and do not count. A blank line is an error rather than skipped:
    it would shift every id after it.

    Args:
        path: A UTF-8 text file.

    Returns:
        Per class, in label-id order, its name followed by its synonyms.

    Raises:
        DataError: The file is missing or not text, or a name is empty or stands twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read the class file {path} ({error}); expected UTF-8 text, one class a line, "
            "synonyms after semicolons: 'cat; kitten'"
        ) from error
    return parse_classes(text.rstrip().splitlines(), str(path))


def builtin_classes(name: str) -> Words:
    """The class list shipped for a data set: ``voc``, ``context``, ``coco_stuff`` or ``camvid``.

    Raises:
        DataError: No list of that name is shipped.
    """
    folder = resources.files("lexiseg.data") / "class_names"
    file = folder / f"{name}.txt"
    if not file.is_file():
        known = sorted(item.name.removesuffix(".txt") for item in folder.iterdir())
        raise DataError(f"no class list named '{name}' is shipped; there are {', '.join(known)}")
    return parse_classes(file.read_text(encoding="utf-8").splitlines(), f"class list '{name}'")


def parse_classes(lines: Iterable[str], source: str) -> Words:
    """Turn lines of ``name; synonym`` into words, refusing what would make two classes one.

    Args:
        lines: One class each; comments start with ``#``.
        source: What messages call the origin of the lines.

    Raises:
        DataError: No class at all, more than 255, an empty name, or a name that stands twice.
    """
    words: list[tuple[str, ...]] = []
    first_seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("#"):
            continue
        names = tuple(" ".join(part.split()) for part in line.split(";"))
        if not all(names):
            raise DataError(
                f"{source}, line {number}: a class name is empty ({line!r}); write one class a line, "
                "synonyms after semicolons, no blank line between"
            )
        for name in names:
            if name in first_seen:
                raise DataError(
                    f"{source}, line {number}: '{name}' already stands on line {first_seen[name]}; "
                    "every name may stand once"
                )
            first_seen[name] = number
        words.append(names)
    if not 0 < len(words) <= IGNORE_INDEX:
        raise DataError(f"{source}: {len(words)} classes; expected 1 to {IGNORE_INDEX}, one a line")
    return tuple(words)
