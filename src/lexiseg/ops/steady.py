"""Arithmetic on a processor whose results do not depend, to the last bit, on what is computed beside them.

Where some of a photograph's words or pixels are left out, the others must score exactly what they did, or two words that
draw level would change places.
"""

import functools
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

_LARGE = 16
"""Rows and columns from which on a product's bits are those of a larger one; the library's own way changes below 4 and 12."""

_SUMMED = 128
"""How many numbers are summed in one product; the library cuts sums of more than 192 in pieces, at places of its own."""


def steady_product(left: Tensor, right: Tensor, *, start: int = 0) -> Tensor:
    """``left @ right``, each entry the same to the bit whatever rows and columns stand beside it.

    Products of a handful of rows or columns go another way through the processor's library, which adds in another order;
    so they are made larger. Long sums are cut where the whole is cut, wherever they begin. So zeros along the summed axis
    change nothing.

    Args:
        left: ``(R, K)``.
        right: ``(K, C)``.
        start: Place of the first of the K in the whole that they are part of.
    """
    rows, columns = left.shape[0], right.shape[1]
    if rows < _LARGE:
        left = F.pad(left, (0, 0, 0, _LARGE - rows))
    if columns < _LARGE:
        right = F.pad(right, (0, _LARGE - columns))
    stop = start + left.shape[1]
    cuts = (0, *(cut - start for cut in range(_SUMMED, stop, _SUMMED) if cut > start), stop - start)
    parts = (left[:, first:last] @ right[first:last] for first, last in pairwise(cuts))
    return functools.reduce(Tensor.add_, parts)[:rows, :columns]


def steady_sigmoid_(logits: Tensor) -> Tensor:
    """Sigmoid in place; torch's own rounds the last few numbers of a tensor in another way than those before."""
    return logits.neg_().exp_().add_(1).reciprocal_()
