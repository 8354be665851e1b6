"""Between which values interpolated maps stay in a block of pixels, told by the few pixels where they bend.

Along an axis bilinear upsampling is linear from one patch centre to the next, and so is whatever is averaged or resized from
it, nearly. A bilinear piece lies between the lowest and the highest of its four corners, so a word costs some pixels of a
block instead of all. What is not quite linear is measured on the matrix and added.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Span = tuple[int, int]
"""First and last pixel along an axis."""

_BENDING = 0.02
"""How much of a pixel's weight may lie elsewhere than on the line between the corners beside it."""

_PLATEAU = 1 - 1e-4
"""What is as far from a line as this share of the farthest is as far as that, but for rounding."""

_ROUNDING = 2.0**-21
"""By how much of the largest value float32 may be off for every number that is added; four times what it is at worst."""

_FEW = 16
"""Numbers that are added beside those of the matrices, at most."""


@dataclass(frozen=True)
class Blocks:
    """An image cut into rectangles of pixels.

    Attributes:
        rows: First row of each band of blocks, then the height.
        columns: First column of each, then the width.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, size: tuple[int, int], side: int) -> "Blocks":
        """Blocks of at most ``side`` pixels a side, all but alike, over an image of this height and width."""
        return cls(_edges(size[0], side), _edges(size[1], side))

    def mirrored(self, axis: int) -> "Blocks":
        """The same blocks of the image mirrored along axis 0 or 1, in the order of the mirrored image."""
        rows, columns = self.rows, self.columns
        return Blocks(_mirrored(rows), columns) if axis == 0 else Blocks(rows, _mirrored(columns))

    def lowest(self, maps: Tensor) -> Tensor:
        """Minimum of ``(H, W)`` in each block, ``(B, C)``."""
        bands = [maps[first:stop].amin(0) for first, stop in pairwise(self.rows)]
        joined = torch.stack(bands)
        return torch.stack([joined[:, first:stop].amin(1) for first, stop in pairwise(self.columns)], dim=1)


@dataclass(frozen=True)
class Corners:
    """The rows of an interpolation matrix that stand for all others.

    Attributes:
        matrix: ``(corners, columns)`` of those rows.
        table: ``(most, spans)`` which corners lie in each span, its ends among them; a span of fewer repeats its last.
        bending: L1 distance of the matrix' rows from the lines between their corners, at most, halved.
        uneven: Difference of a row's sum from its line's, at most.
        reach: Largest L1 norm of a row.
        terms: Most numbers in a row that are not zero.
    """

    matrix: Tensor
    table: Tensor
    bending: float
    uneven: float
    reach: float
    terms: int

    @classmethod
    def of(cls, matrix: Tensor, spans: tuple[Span, ...]) -> "Corners":
        """Corners of ``(rows, columns)``, so many that the rest is all but linear, as Douglas and Peucker choose them."""
        exact = matrix.double()
        reach = float(exact.abs().sum(1).amax())
        index = torch.arange(len(exact), device=matrix.device)
        chosen = torch.zeros(len(exact), dtype=torch.bool, device=matrix.device)
        first, last = torch.tensor(spans, device=matrix.device).T
        chosen[first] = chosen[last] = True
        inside = (index >= first.amin()) & (index <= last.amax())
        while True:
            corners = chosen.nonzero().flatten()
            piece = (torch.searchsorted(corners, index, right=True) - 1).clamp_(0, max(len(corners) - 2, 0))
            low, high = corners[piece], corners[(piece + 1).clamp_(max=len(corners) - 1)]
            way = (index - low).double() / (high - low).clamp_(min=1)
            off = torch.where(inside[:, None], exact - torch.lerp(exact[low], exact[high], way[:, None]), 0)
            bent = off.abs().sum(1)
            worst = bent.new_zeros(len(corners)).scatter_reduce_(0, piece, bent, "amax")
            bends = (bent > _BENDING * reach) & (bent > _PLATEAU * worst[piece])
            if not bends.any():
                break
            first_bend = torch.full_like(corners, len(exact)).scatter_reduce_(
                0, piece[bends], index[bends], "amin"
            )
            chosen[first_bend[first_bend < len(exact)]] = True
        ends = torch.searchsorted(corners, torch.stack([first, last]))
        steps = torch.arange(int((ends[1] - ends[0]).amax()) + 1, device=matrix.device)
        table = (ends[0] + steps[:, None]).minimum(ends[1])
        uneven, terms = float(off.sum(1).abs().amax()), int((exact != 0).sum(1).amax())
        return cls(matrix[corners], table, float(bent.amax()) / 2, uneven, reach, terms)


def block_spans(edges: tuple[int, ...]) -> tuple[Span, ...]:
    """Of blocks side by side: from a block's first pixel to the next one's, the corner that they share."""
    return tuple((first, min(stop, edges[-1] - 1)) for first, stop in pairwise(edges))


def rounding_share(terms: int) -> float:
    """By how much of the largest value a sum of so many numbers may depend on the order in which float32 adds them."""
    return _ROUNDING * (terms + _FEW)


def interpolation_bounds(maps: Tensor, vertical: Corners, horizontal: Corners) -> tuple[Tensor, Tensor]:
    """Between which values ``vertical @ maps @ horizontalᵀ`` stays in each block, in whatever order float32 adds.

    Args:
        maps: ``(rows, M, columns)`` of some words.
        vertical: Of the matrix whose columns are ``rows``.
        horizontal: Of the other.

    Returns:
        Lower and upper bounds ``(B, C, M)`` for blocks of each vertical and each horizontal span.
    """
    across = (maps.flatten(0, 1) @ horizontal.matrix.T).unflatten(0, maps.shape[:2])
    lattice = (vertical.matrix @ across.flatten(1)).unflatten(1, across.shape[1:])  # (corners, M, corners)
    lowest, highest = (
        each.permute(2, 0, 1).contiguous() for each in _extremes(lattice, lattice, vertical.table)
    )
    lower, upper = (each.transpose(0, 1) for each in _extremes(lowest, highest, horizontal.table))
    low, high = maps.amin(2).amin(0), maps.amax(2).amax(0)
    bending = vertical.bending * horizontal.reach + horizontal.bending * vertical.reach
    uneven = vertical.uneven * horizontal.reach + horizontal.uneven * vertical.reach
    rounding = uneven + rounding_share(vertical.terms + horizontal.terms) * vertical.reach * horizontal.reach
    slack = bending * (high - low) + rounding * torch.maximum(high, -low)
    return lower.sub_(slack), upper.add_(slack)


def _extremes(lower: Tensor, upper: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest of ``lower`` and highest of ``upper`` along the first axis, among the corners of each span."""
    lows, highs = lower.index_select(0, table[0]), upper.index_select(0, table[0])
    for corners in table[1:]:
        of_upper = upper.index_select(0, corners)
        torch.maximum(highs, of_upper, out=highs)
        torch.minimum(lows, of_upper if lower is upper else lower.index_select(0, corners), out=lows)
    return lows, highs


def _edges(size: int, side: int) -> tuple[int, ...]:
    count = -(-size // side)
    return tuple(size * index // count for index in range(count + 1))


def _mirrored(edges: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(edges[-1] - edge for edge in reversed(edges))
