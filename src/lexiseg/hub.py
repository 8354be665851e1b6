"""What the Hugging Face hub says when it hands out nothing."""

from collections.abc import Iterator
from pathlib import Path

SINCE = {"Sam3Model": " to 5.0 or later", "Sam3TrackerModel": " to 5.0 or later"}
"""From which version on transformers has a class, as the end of a sentence."""

_GATED = ("facebook/sam3",)
"""Beginnings of names whose weights are given on request alone, as far as we load such."""


def tell_gated(location: str | Path, error: Exception) -> str:
    """What to do where weights are given on request alone; empty where an error is about something else.

    Offline, and for who is not logged in, the hub does not say so itself of the names that we know.

    Args:
        location: The name that was asked for.
        error: What came instead.
    """
    name = str(location)
    asked = any(
        type(each).__name__ == "GatedRepoError" or "gated repo" in str(each) for each in _chain(error)
    )
    if Path(name).is_dir() or not (asked or name.startswith(_GATED)):
        return ""
    return (
        f"the weights of '{name}' are gated: ask for access on https://huggingface.co/{name}, log in by `hf auth login` and "
        "come back online once (the hub keeps a copy), or give the folder of local weights"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
