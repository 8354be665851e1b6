"""Class scores at source pixels from regions with a score per class, without a full-size map of any region or class."""

import torch
from torch import Tensor

from lexiseg.ops.class_chunks import LinearMerge
from lexiseg.ops.window_merge import AxisPlan


class RegionMerge:
    """Tiles of ``sum_n score[n, k] * sigmoid(mask_n)``, the mask logits being brought to the source's size first.

    What SAN, FC-CLIP and MaskFormer's other children publish: up from the mask grid to the padded image, the padding cut
    off, on to the photograph, then the sigmoid, then the sum. All of that is linear up to the sigmoid, so one product of
    matrices takes the logits of a tile from the mask grid to the photograph. N regions and K classes cost N + K numbers
    per pixel of one tile, and never N times K.

    Args:
        masks: ``(N, h, w)`` mask logits of the one window that covers the image.
        scores: ``(N, K)``.
        vertical: Plan of the vertical axis, of one window.
        horizontal: Plan of the horizontal axis.
    """

    def __init__(self, masks: Tensor, scores: Tensor, vertical: AxisPlan, horizontal: AxisPlan) -> None:
        self._regions = len(masks)
        self._logits = LinearMerge(masks[None], vertical, horizontal)
        self._scores = scores.float().T.contiguous()
        self._last: tuple[tuple[int, int, int, int], Tensor] | None = None

    def tile(self, rows: slice, columns: slice, words: slice) -> Tensor:
        """``(R, M, C)`` scores of some classes at some source pixels."""
        return torch.matmul(self._scores[words], self._sigmoids(rows, columns))

    def _sigmoids(self, rows: slice, columns: slice) -> Tensor:
        """``(R, N, C)``; the last ones are kept, since one tile is asked for all its classes in turn."""
        place = (rows.start, rows.stop, columns.start, columns.stop)
        if self._last is None or self._last[0] != place:
            self._last = (
                place,
                self._logits.tile(rows, columns, slice(0, self._regions)).sigmoid_(),
            )
        return self._last[1]
