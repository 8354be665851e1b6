"""Judging the names alone: whose masks a segmenter is given, so that it only has to say what is in them."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lexiseg.data.label_regions import label_regions
from lexiseg.types import Sample, SegmentationDataset

GROUND_TRUTH = "ground_truth"
"""``masks=ground_truth``: one mask for every class that a label map shows."""

NAMING_PROTOCOL: Mapping[str, Any] = {"area_threshold": 0.0}
"""What a protocol says otherwise where masks are given: the area rule drops classes that win few pixels, and would keep a small
mask from its name however well that fits."""


class MaskSource(Protocol):
    """Masks without names for one labelled photograph after another."""

    @property
    def told(self) -> Mapping[str, Any]:
        """Where they come from, as plain values: what the report says, and what tells a kept score from another."""

    def masks(self, dataset: SegmentationDataset, index: int, sample: Sample) -> npt.NDArray[np.bool_]:
        """``(M, H, W)`` of the sample at this index.

        Raises:
            DataError: There are none, or they do not fit.
        """


class GroundTruthMasks:
    """The binary mask of every class present in the label map: what is judged is the naming and nothing else.

    All pixels of a class are one mask, however many pieces they lie in.
    """

    told: Mapping[str, Any] = {"source": GROUND_TRUTH}

    def masks(self, dataset: SegmentationDataset, index: int, sample: Sample) -> npt.NDArray[np.bool_]:
        """``(M, H, W)`` by ascending class; ignored pixels are in none."""
        del dataset, index
        regions = label_regions(sample.label, "class")
        height, width = regions.size
        return regions.sample(np.arange(height), np.arange(width))
