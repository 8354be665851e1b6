"""Random numbers of a published run, given again in the order in which it drew them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor


@contextmanager
def replayed(draws: Sequence[Tensor]) -> Iterator[None]:
    """Every ``torch.rand`` inside answers with the next of ``draws``, and all of them must be asked for."""
    left = list(draws)

    def draw(*size, device=None, **_):
        assert left, f"a draw of {size} after the last recorded one"
        given = left.pop(0)
        assert given.shape == torch.Size(size), f"a draw of {size}, recorded {tuple(given.shape)}"
        return given.to(device or "cpu")

    with patch.object(torch, "rand", draw):
        yield
    assert not left, f"{len(left)} recorded draws were not asked for"
