"""The segments of a panoptic model of ``transformers``, without their names: EoMT, Mask2Former, MaskFormer.

CorrCLIP's tables have them beside SAM 2. Such models were trained on labels, most of them COCO's, so masks of theirs are not
free of labels on COCO's data.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.provider import Picture

FindSegments = Callable[[Picture], tuple[npt.NDArray[np.bool_], list[float]]]
"""``(H, W, 3)`` uint8 RGB to masks ``(N, H, W)`` that do not overlap, and the score of each in [0, 1]."""


class PanopticSegments:
    """Every segment that a panoptic model finds by its own post-processing, the best score first.

    Args:
        find: Runs the model.
        source: What identifies it, for the files.
    """

    name = "panoptic"

    def __init__(self, find: FindSegments, *, source: Mapping[str, Any]) -> None:
        self._find, self._source = find, dict(source)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model's identity."""
        return self._source

    def __call__(self, image: Picture) -> MaskSet:
        """The segments of an ``(H, W, 3)`` uint8 RGB photograph; what belongs to none is under no mask."""
        found = MaskSet.from_masks(*self._find(image))
        return found.chosen(np.argsort(-found.scores, kind="stable"))
