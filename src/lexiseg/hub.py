"""Asking the Hugging Face hub and ``transformers`` for weights: quietly, in float32, and what is said where there are none."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SINCE = {"Sam3Model": " to 5.0 or later", "Sam3TrackerModel": " to 5.0 or later"}
"""From which version on transformers has a class, as the end of a sentence."""

_GATED = ("facebook/sam3",)
"""Beginnings of names whose weights are given on request alone, as far as we load such."""


def float32() -> dict[str, Any]:
    """What ``from_pretrained`` is told for weights in float32: the argument was called otherwise before transformers 4.56."""
    import torch
    import transformers

    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    return {"dtype" if version >= (4, 56) else "torch_dtype": torch.float32}


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor bars of transformers and torch, which stay as they were afterwards: the account of keys is ours."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


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
