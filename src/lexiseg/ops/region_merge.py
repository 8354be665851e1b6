"""Class scores at source pixels from regions with a score per class, without a full-size map of any region or class."""

from dataclasses import replace

import torch
from torch import Tensor

from lexiseg.ops.class_chunks import LinearMerge, Picked, TileSource
from lexiseg.ops.window_merge import AxisPlan, BandedMatrix

_REGION_BYTES = 16 * 2**20
"""Sigmoids of all regions held at once: a tile of few classes may have many rows."""


class RegionMerge(TileSource):
    """Tiles of ``sum_n score[n, k] * sigmoid(mask_n)``, made in one of the two published orders.

    Up from the mask grid to the padded image and the padding cut off, both have in common. Then either the mask logits go on
    to the photograph's size, where the sigmoid and the sum are taken (SAN; FC-CLIP on some data sets), or these are
    taken first and the sums go on (ZegFormer, OVSeg; FC-CLIP on the others). What comes before the sigmoid is linear, so
    one product of matrices takes a tile there from the mask grid. N regions and K classes cost N + K numbers per pixel
    of one tile, and never N times K.

    Args:
        masks: ``(N, h, w)`` mask logits of the one window that covers the image.
        scores: ``(N, K)``.
        vertical: Plan of the vertical axis, of one window.
        horizontal: Plan of the horizontal axis.
        sums_travel: Whether the sums go to the photograph's size instead of the masks.
    """

    def __init__(
        self,
        masks: Tensor,
        scores: Tensor,
        vertical: AxisPlan,
        horizontal: AxisPlan,
        *,
        sums_travel: bool = False,
    ) -> None:
        self._regions = len(masks)
        self._scores = scores.float().T.contiguous()
        self._onward: tuple[BandedMatrix | None, BandedMatrix | None] = (None, None)
        if sums_travel:
            plans = (vertical, horizontal)
            self._onward = tuple(None if p.resample is None else BandedMatrix(p.resample) for p in plans)  # type: ignore[assignment]
            vertical, horizontal = (replace(plan, resample=None, source=plan.working) for plan in plans)
        self._logits = LinearMerge(masks[None], vertical, horizontal)
        self._last: tuple[tuple[int, int, int, int], Tensor] | None = None

    def tile(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """``(R, M, C)`` scores of some classes at some source pixels."""
        down, across = self._onward
        maps = self._sums(
            rows if down is None else down.columns(rows),
            columns if across is None else across.columns(columns),
            words,
        )
        maps = maps if down is None else down.rows_times(rows, maps)
        return maps if across is None else across.times_rows(maps, columns)

    def _sums(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """``(R, M, C)`` sums where they are made, a few rows of all regions at a time."""
        step = max(1, _REGION_BYTES // (4 * self._regions * (columns.stop - columns.start)))
        starts = range(rows.start, rows.stop, step)
        parts = (slice(start, min(start + step, rows.stop)) for start in starts)
        return torch.cat([torch.matmul(self._scores[words], self._sigmoids(part, columns)) for part in parts])

    def _sigmoids(self, rows: slice, columns: slice) -> Tensor:
        """``(R, N, C)``; the last ones are kept, since a small tile is asked for all its classes in turn."""
        place = (rows.start, rows.stop, columns.start, columns.stop)
        if self._last is None or self._last[0] != place:
            self._last = (
                place,
                self._logits.tile(rows, columns, slice(0, self._regions)).sigmoid_(),
            )
        return self._last[1]
