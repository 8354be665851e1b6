"""Window logits to source pixels, a piece at a time: which matrices take patches to pixels along one axis.

Bilinear upsampling, averaging over the windows of a grid and resizing to the source are all linear and
separable, so that along each axis they are one small matrix. Nothing of an image's full size is ever held
per class.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lexiseg.ops.block_bounds import Corners, Span
from lexiseg.ops.interpolate import bilinear_matrix
from lexiseg.ops.steady import steady_product
from lexiseg.types import chunks

_BLOCK = 128
"""Columns per product: a narrow block reads few inputs, a wide one makes better use of the processor."""

Padding = Literal["bottom_right", "centre"]
"""Where the zeros lie that bring a window to the patch grid."""


@dataclass(frozen=True)
class AxisPlan:
    """How patches become pixels along one axis (vertical or horizontal).

    Attributes:
        starts: First working pixel of each window.
        upsample: ``(window, patches)``, the same for each window.
        resample: ``(source, working)``, or None where working and source size agree.
        working: Pixels of the image that the windows lie on.
        source: Pixels of the photograph.
        after: Windows that the grid of a larger picture has before the first of these, where this is a piece of one. Sums are
            cut where those of the whole picture are, so that a piece has its bits.
    """

    starts: tuple[int, ...]
    upsample: Tensor
    resample: Tensor | None
    working: int
    source: int
    after: int = 0
    _ways: "dict[float, BandedMatrix]" = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def window(self) -> int:
        """Pixels of a window."""
        return len(self.upsample)

    def coverage(self) -> Tensor:
        """``(working,)`` how many windows lie over each pixel."""
        count = self.upsample.new_zeros(self.working)
        for start in self.starts:
            count[start : start + self.window] += 1
        return count

    def fused(self) -> Tensor:
        """``(source, windows * patches)``: upsample, average over windows and resample in one matrix."""
        patches = self.upsample.shape[1]
        matrix = self.upsample.new_zeros(self.working, len(self.starts) * patches)
        for index, start in enumerate(self.starts):
            matrix[start : start + self.window, index * patches : (index + 1) * patches] = self.upsample
        matrix /= self.coverage()[:, None]
        return matrix if self.resample is None else BandedMatrix(self.resample).times(matrix)

    def way(self, scale: float = 1.0) -> "BandedMatrix":
        """:meth:`fused` times ``scale``, kept for the words that are still to come."""
        if scale not in self._ways:
            first = self.after * self.upsample.shape[1]
            self._ways[scale] = BandedMatrix(self.fused() * scale, first=first)
        return self._ways[scale]


def plan_axis(
    *,
    starts: tuple[int, ...],
    window: int,
    padded: int,
    patches: int,
    working: int,
    source: int,
    padding: Padding = "bottom_right",
    device: torch.device | None = None,
) -> AxisPlan:
    """Matrices of one axis.

    Args:
        starts: First working pixel of each window.
        window: Pixels of a window.
        padded: Pixels of a window after padding to the patch grid; the padding is cropped from the result.
        patches: Logits along the axis of one window.
        working: Pixels of the image that the windows lie on.
        source: Pixels of the photograph.
        padding: Where the padding lies.
        device: Of the matrices.
    """
    before = padding_before(window, padded, padding)
    upsample = bilinear_matrix(patches, padded, device=device)[before : before + window].contiguous()
    resample = None if working == source else bilinear_matrix(working, source, device=device)
    return AxisPlan(starts, upsample, resample, working, source)


def padding_before(window: int, padded: int, padding: Padding) -> int:
    """Padded pixels before the first pixel of the window."""
    return (padded - window) // 2 if padding == "centre" else 0


class BandedMatrix:
    """A matrix whose rows are zero outside a short band, as in interpolation; products skip what is zero.

    Args:
        matrix: ``(rows, columns)``; every row holds something.
        first: Place of its first column in the larger matrix that it is cut from.
    """

    def __init__(self, matrix: Tensor, *, first: int = 0) -> None:
        self.matrix = matrix
        self._start = first
        filled = (matrix != 0).to(torch.uint8)
        self._first: list[int] = filled.argmax(1).tolist()
        self._last: list[int] = (matrix.shape[1] - filled.flip(1).argmax(1)).tolist()
        self._corners: dict[tuple[Span, ...], Corners] = {}

    def corners(self, spans: tuple[Span, ...]) -> Corners:
        """Rows that stand for all rows of each span; kept for the words that are still to come."""
        if spans not in self._corners:
            self._corners[spans] = Corners.of(self.matrix, spans)
        return self._corners[spans]

    def columns(self, rows: slice) -> slice:
        """Columns between which all that is not zero in ``rows`` lies."""
        return slice(min(self._first[rows]), max(self._last[rows]))

    def times(self, other: Tensor) -> Tensor:
        """``matrix @ other`` of ``(columns, C)``."""
        parts = [
            self.matrix[rows, self.columns(rows)] @ other[self.columns(rows)]
            for rows in chunks(len(self.matrix), _BLOCK)
        ]
        return torch.cat(parts)

    def rows_times(self, rows: slice, maps: Tensor) -> Tensor:
        """``matrix[rows] @ maps`` along the first axis of ``(columns of rows, M, C)``: ``(R, M, C)``."""
        band = self.columns(rows)
        start = self._start + band.start
        product = steady_product(self.matrix[rows, band], maps.flatten(1), start=start)
        return product.unflatten(1, maps.shape[1:])

    def times_rows(self, maps: Tensor, rows: slice) -> Tensor:
        """``maps @ matrix[rows]ᵀ`` along the last axis of ``(R, M, columns of rows)``: ``(R, M, rows)``."""
        offset = self.columns(rows).start
        flat = maps.flatten(0, 1)
        result = flat.new_empty(len(flat), rows.stop - rows.start)
        for part in chunks(result.shape[1], _BLOCK):
            taken = slice(rows.start + part.start, rows.start + part.stop)
            band = self.columns(taken)
            shifted = slice(band.start - offset, band.stop - offset)
            start = self._start + band.start
            result[:, part] = steady_product(flat[:, shifted], self.matrix[taken, band].T, start=start)
        return result.unflatten(0, maps.shape[:2])


def merge_features(maps: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Average window features on the image's own patch grid.

    Args:
        maps: ``(Wy, Wx, D, h, w)``.
        vertical: ``(H', Wy * h)`` from :func:`cell_matrix`.
        horizontal: ``(W', Wx * w)`` likewise.

    Returns:
        ``(D, H', W')``.
    """
    joined = maps.permute(0, 3, 2, 1, 4).flatten(3).flatten(0, 1)  # (Wy * h, D, Wx * w)
    return torch.einsum("yn,ndm,xm->dyx", vertical, joined, horizontal)


def cell_matrix(
    *, starts: tuple[int, ...], window: int, patches: int, cell: float, working: int, before: int = 0
) -> Tensor:
    """``(cells, windows * patches)``: each cell of the image's patch grid as a mean of the patches over it.

    Args:
        starts: First working pixel of each window.
        window: Pixels of a window.
        patches: Patches along the axis of one window.
        cell: Pixels of a patch.
        working: Pixels of the image.
        before: Padded pixels before the window's first.
    """
    edges = torch.arange(-(-working // int(cell)), dtype=torch.float64) * cell
    begins = torch.tensor(starts, dtype=torch.float64)[:, None]
    patch_begins = begins - before + torch.arange(patches, dtype=torch.float64) * cell  # (windows, patches)
    lower = patch_begins.maximum(begins).flatten()
    upper = (patch_begins + cell).minimum(begins + window).flatten()
    overlap = upper.minimum(edges[:, None] + cell) - lower.maximum(edges[:, None])
    overlap = overlap.clamp_(min=0)
    return (overlap / overlap.sum(1, keepdim=True)).float()
