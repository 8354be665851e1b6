"""A word list by the name that a user gives it."""

from collections.abc import Sequence
from pathlib import Path

from lexiseg.data.class_files import Words, builtin_classes, read_class_file
from lexiseg.data.toy.world import TOY_CLASSES
from lexiseg.errors import ConfigError


def word_groups(words: str | Path | Sequence[str], key: str = "words") -> Words:
    """Names with their synonyms: a list of names, ``toy``, a class file, or the name of a shipped class list.

    Args:
        words: As given.
        key: What the user calls it.

    Raises:
        LexisegError: No such list, or a file that is none.
    """
    if not isinstance(words, str | Path | list | tuple) or not words:
        raise ConfigError(
            f"{key}: expected a class list's name, a text file or a list of words, got {words!r}"
        )
    if isinstance(words, list | tuple):
        return tuple((str(word),) for word in words)
    if words == "toy":
        return tuple((name,) for name in TOY_CLASSES)
    return read_class_file(words) if Path(words).is_file() else builtin_classes(str(words))
