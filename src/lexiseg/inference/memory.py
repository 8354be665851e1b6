"""Memory that ran out on one photograph is that photograph's error, so that a folder of them goes on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lexiseg.errors import DataError

_TORCH_SAYS = ("can't allocate memory", "not enough memory")
"""On a processor torch has no exception of its own for it."""


@contextmanager
def memory_of_a_photograph() -> Iterator[None]:
    """Tell memory that runs out inside as a :class:`~lexiseg.errors.DataError`; also a decorator.

    Raises:
        DataError: Instead of what Python or torch raises for memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        ours = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
        if not ours and not any(said in str(error) for said in _TORCH_SAYS):
            raise
        raise DataError(
            "there is not enough memory for a photograph of this size with these words; crop it, or set a smaller "
            "protocol.short_side or protocol.window_batch"
        ) from error
