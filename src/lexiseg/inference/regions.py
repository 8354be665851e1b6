"""The regions of one photograph for a model that reads inside them, from the windows to the labels."""

import logging

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.dense.multi_view import View, mirror
from lexiseg.errors import ConfigError
from lexiseg.inference.refine import MaskVote
from lexiseg.ops.region_ids import UNSEGMENTED, ids_at, one_label_per_region
from lexiseg.types import MaskedSegmentable, Segmentable

_LOG = logging.getLogger(__name__)

_SHOWN_LEAST = 0.25
"""Share of the masks below which hardly any is seen; the parts of objects that a SAM finds beside the whole stay above."""


class PictureRegions:
    """Masks as a model reads inside them: what ``encode`` is told of each window, and what becomes of the labels.

    Args:
        model: Says what it wants to know of masks.
        masks: ``(M, H, W)`` bool; they may overlap, and need not cover the photograph.
        size: Height and width of the photograph.

    Attributes:
        ids: The model's map of them, ``(…, H, W)`` integers at the photograph's size.

    Raises:
        DataError: Other masks than that.
    """

    def __init__(self, model: MaskedSegmentable, masks: npt.NDArray[np.bool_], size: tuple[int, int]) -> None:
        self._vote = MaskVote.of(masks, size)
        self.ids = model.region_map(torch.from_numpy(masks))
        self._one_label = model.one_label_per_region
        visible = self.ids.argmax(dim=0) if self.ids.ndim == 3 else self.ids
        shown = int((visible.unique() > UNSEGMENTED).sum())
        if shown < _SHOWN_LEAST * len(masks):
            _tell_covered(len(masks), shown)

    def in_view(self, working: tuple[int, int], view: View) -> Tensor:
        """The map ``(…, h, w)`` of a view of the photograph's working size, nearest pixels."""
        return mirror(ids_at(ids_at(self.ids, working), view.size), view.flip)

    def correct(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Labels ``(H, W)``, one for each region if the model says so; and ``(M,)`` int64, the commonest under each mask."""
        if self._one_label:
            labels = one_label_per_region(labels, self.ids.to(labels.device))
        return labels, self._vote.as_given(self._vote.label_votes(labels))


_told: set[str] = set()


def _tell_covered(masks: int, shown: int) -> None:
    """Say once that most masks lie under larger ones."""
    if not _told:
        _told.add("covered")
        _LOG.warning(
            "%d of %d masks have a pixel of their own: larger ones lie over smaller ones, as published. For all of them take "
            "masks that do not overlap, such as --masks superpixels, or `lexiseg masks build --regions 48`",
            shown,
            masks,
        )


def require_regions(model: Segmentable) -> None:
    """Refuse a model that reads inside masks where there are none.

    Raises:
        ConfigError: It needs masks.
    """
    if model.needs.masks:
        raise masks_missing(type(model).__name__)


def masks_unserved(name: str) -> ConfigError:
    """What is said of such a model or method where photographs come without masks, always."""
    return ConfigError(
        f"{name} reads a photograph inside masks, and clients of a server send none; serve another method, such as sc-clip"
    )


def masks_missing(name: str) -> ConfigError:
    """What is said of a model or method that reads inside masks where there are none."""
    return ConfigError(
        f"{name} reads a photograph inside masks, and got none; name some by --masks (from Python: masks=), a folder that "
        "`lexiseg masks build` wrote or what makes them, such as superpixels, normalized_cut or sam"
    )
