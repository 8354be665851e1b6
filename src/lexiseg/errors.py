"""The one exception for mistakes that the user can mend.

Every message says what was expected, what came, and what to do. The command line prints it without a
traceback and exits with status 2; from Python it is an ordinary exception.
"""

import difflib
from collections.abc import Iterable


class LexisegError(Exception):
    """A wrong path, name, setting or file: something whose remedy is in the message."""


class DataError(LexisegError):
    """A data set, image or label map is missing, damaged or not what its schema declares."""


class UnavailableError(LexisegError):
    """Weights that are neither here nor to be had."""


class ConfigError(LexisegError):
    """Settings that contradict each other or that nothing reads."""


class CheckpointError(LexisegError):
    """A weight file that cannot be used: unsafe, damaged, or of another model."""


class TrainingError(LexisegError):
    """Training cannot go on: a loss that is not a number, or labels that must not be seen."""


def own_sentence(error: Exception) -> str:
    """What an error says; one from a data loader's process comes wrapped in that process's traceback."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if "Original Traceback" in text else text


def near_name(given: str, there: Iterable[str]) -> str:
    """The one of some names that was meant, whatever its case and hyphens; empty where none comes near."""
    names = {name.lower().replace("-", "_"): name for name in there}
    near = difflib.get_close_matches(given.lower().replace("-", "_"), names, 1)
    return names[near[0]] if near else ""


def did_you_mean(given: str, there: Iterable[str]) -> str:
    """The end of a sentence about a name that there is not: what was meant, or nothing."""
    near = near_name(given, there)
    return f"; did you mean {near}?" if near else ""
