"""How often a classifier of single regions names those that a label map holds: the naming alone, without a segmenter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.label_codes import codes_of
from lexiseg.progress import with_progress
from lexiseg.types import Sample, SegmentationDataset

ReadRegions = Callable[[np.ndarray, np.ndarray], Tensor]
"""A photograph ``(H, W, 3)`` uint8 RGB and its regions ``(N, H, W)`` bool to embeddings ``(N, E)``, not normalised."""


@dataclass(frozen=True)
class RegionAccuracy:
    """Shares of regions that were named right.

    Attributes:
        regions: How many there were: one for each class of each label map.
        mask_accuracy: Of all regions.
        class_accuracy: Mean over classes that occur, of the share of their regions.
    """

    regions: int
    mask_accuracy: float
    class_accuracy: float


@torch.no_grad()
def region_accuracy(read: ReadRegions, dataset: SegmentationDataset, text: Tensor) -> RegionAccuracy:
    """Name the pixels of each class of each photograph as one region, by the highest cosine.

    Args:
        read: The classifier.
        dataset: With labels.
        text: ``(K, E)`` unit embeddings of its classes.
    """
    right, all_of = (torch.zeros(len(text), dtype=torch.long) for _ in range(2))
    numbers = with_progress(range(len(dataset)), "naming regions", len(dataset))
    for sample in (dataset[index] for index in numbers):
        for truth, found in zip(*_named(read, sample, text), strict=True):
            all_of[truth] += 1
            right[truth] += truth == found
    shares = right[all_of > 0] / all_of[all_of > 0]
    return RegionAccuracy(
        int(all_of.sum()), float(right.sum() / all_of.sum().clamp(min=1)), float(shares.mean())
    )


def _named(read: ReadRegions, sample: Sample, text: Tensor) -> tuple[list[int], list[int]]:
    """Class ids of a sample's regions, and those that they were given."""
    codes = codes_of(sample.label)
    present = [i for i in np.unique(sample.label).tolist() if i not in (codes.ignore, codes.unlabelled)]
    if not present:
        return [], []
    masks = sample.label == np.array(present, dtype=sample.label.dtype)[:, None, None]
    vectors = F.normalize(read(sample.image, masks), dim=-1)
    found: list[int] = (vectors @ text.to(vectors).T).argmax(1).tolist()
    return present, found


def accuracy_facts(before: RegionAccuracy, after: RegionAccuracy) -> Iterator[str]:
    """Both in sentences."""
    yield f"{after.regions} regions named; right before and after:"
    yield f"{100 * before.mask_accuracy:.1f} % and {100 * after.mask_accuracy:.1f} % of all"
    yield f"{100 * before.class_accuracy:.1f} % and {100 * after.class_accuracy:.1f} % in the mean over classes"
