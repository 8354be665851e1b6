"""The one exception for mistakes that the user can mend.

Every message says what was expected, what came, and what to do. The command line prints it without a
traceback and exits with status 2; from Python it is an ordinary exception.
"""


class LexisegError(Exception):
    """A wrong path, name, setting or file: something whose remedy is in the message."""


class DataError(LexisegError):
    """A data set, image or label map is missing, damaged or not what its schema declares."""


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
