"""The regions of one photograph for a model that reads inside them, from the windows to the labels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.dense.multi_view import View, mirror
from lexiseg.errors import ConfigError
from lexiseg.inference.refine import MaskVote
from lexiseg.ops.late_matching import with_rest
from lexiseg.ops.region_ids import OUTSIDE, ids_at, one_label_per_region, region_ids
from lexiseg.types import Segmentable


class PictureRegions:
    """Masks as regions: what ``encode`` is told of each window, and one label for each region at the end.

    Args:
        masks: ``(M, H, W)`` bool; they may overlap, and need not cover the photograph.
        size: Height and width of the photograph.
        overlap: Keep the masks as they are, with the rest of the photograph before them, instead of one map of ids.

    Raises:
        DataError: Other masks than that.
    """

    def __init__(self, masks: npt.NDArray[np.bool_], size: tuple[int, int], *, overlap: bool = False) -> None:
        self._vote = MaskVote.of(masks, size)
        self._overlap = overlap
        given = torch.from_numpy(masks)
        self.ids = with_rest(given) if overlap else region_ids(given)

    @property
    def outside(self) -> int:
        """What stands on padding: no mask, or an id of its own."""
        return 0 if self._overlap else OUTSIDE

    def in_view(self, working: tuple[int, int], view: View) -> Tensor:
        """Ids ``(h, w)``, or masks ``(M + 1, h, w)``, of a view of the photograph's working size, nearest pixels."""
        return mirror(ids_at(ids_at(self.ids, working), view.size), view.flip)

    def correct(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Labels ``(H, W)`` of which every region has one, and ``(M,)`` int64 the most frequent under each mask as given.

        Where masks overlap as they are, the labels stay.
        """
        corrected = labels if self._overlap else one_label_per_region(labels, self.ids.to(labels.device))
        return corrected, self._vote.as_given(self._vote.label_votes(corrected))


def in_batch(regions: Sequence[Tensor]) -> Tensor:
    """Ids ``(h, w)`` of B windows as ``(B, h, w)``; masks ``(M, h, w)`` as ``(B, M, h, w)``, M of most, the others' last empty."""
    if regions[0].ndim == 2:
        return torch.stack(list(regions))
    most = max(len(each) for each in regions)
    return torch.stack([F.pad(each, (0, 0, 0, 0, 0, most - len(each))) for each in regions])


def require_regions(model: Segmentable) -> None:
    """Refuse a model that reads inside masks where there are none.

    Raises:
        ConfigError: It needs masks.
    """
    if model.needs.masks:
        raise masks_missing(type(model).__name__)


def masks_missing(name: str) -> ConfigError:
    """What is said of a model or method that reads inside masks where there are none."""
    return ConfigError(
        f"{name} reads a photograph inside masks, and got none; name some by --masks (from Python: masks=), superpixels or a "
        "folder that `lexiseg masks build` wrote"
    )
