"""Class-name files: one class a line in label-id order, synonyms after semicolons."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from lexiseg.errors import DataError
from lexiseg.label_codes import MOST_CLASSES
from lexiseg.storage import read_words, tell_unreadable

Words = tuple[tuple[str, ...], ...]
"""Per class its name and then its synonyms."""

SHARED_WORDS = ("coco_object", "coco_object_proxyclip")
"""Shipped lists in which a word stands in two classes, because it was published so: "bed" is a negative word of
the background and a class. The background, which comes first, then scores at least as high as class "bed"
everywhere, but for rounding. Taking the word out of either class would be another protocol, with other
probabilities for all classes."""


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
        text = read_words(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{tell_unreadable(path, error)}; expected a class file: UTF-8 text, one class a line, synonyms after semicolons: "
            "'cat; kitten'"
        ) from error
    return parse_classes(text.rstrip().splitlines(), str(path))


def builtin_classes(name: str) -> Words:
    """A class list that is shipped, in label-id order.

    Two kinds lie side by side. Lists with a data set's name (``voc``, ``context``, ``coco_stuff``, ``ade20k``,
    ``cityscapes``, ``camvid``) hold its class names. The others hold the words in which training-free methods
    ask for the classes of a benchmark (``voc21``, ``voc20``, ``context60``, ``context59``, ``coco_object``,
    ``coco_stuff171``, ``ade20k150``, ``cityscapes19``, and ``voc21``, ``voc20`` and ``coco_object`` with
    ``_clearclip`` or ``_proxyclip`` behind, ``voc21`` and ``context60`` with ``_groupvit``).
    There, class 0 of a benchmark with background may be a group of negative words, so the first word of a class
    is not always its name: names come from the data set.

    Raises:
        DataError: No list of that name is shipped.
    """
    folder = resources.files("lexiseg.data") / "class_names"
    file = folder / f"{name}.txt"
    if not file.is_file():
        known = sorted(item.name.removesuffix(".txt") for item in folder.iterdir())
        raise DataError(f"no class list named '{name}' is shipped; there are {', '.join(known)}")
    lines = file.read_text(encoding="utf-8").splitlines()
    return parse_classes(lines, f"class list '{name}'", shared=name in SHARED_WORDS)


def parse_classes(lines: Iterable[str], source: str, *, shared: bool = False) -> Words:
    """Turn lines of ``name; synonym`` into words, refusing what would make two classes one.

    Args:
        lines: One class each; comments start with ``#``.
        source: What messages call the origin of the lines.
        shared: Two classes may have a word in common; within a class it may still stand once only.

    Raises:
        DataError: No class at all, more than 65534, an empty name, or a name that stands twice.
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
        if shared:
            first_seen.clear()
        for name in names:
            if name in first_seen:
                raise DataError(
                    f"{source}, line {number}: '{name}' already stands on line {first_seen[name]}; "
                    "every name may stand once"
                )
            first_seen[name] = number
        words.append(names)
    if not 0 < len(words) <= MOST_CLASSES:
        raise DataError(f"{source}: {len(words)} classes; expected 1 to {MOST_CLASSES}, one a line")
    return tuple(words)
