"""How often a classifier of single regions names those that a label map holds: the naming alone, without a segmenter."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.evaluation.naming import GroundTruthMasks
from lexiseg.metrics.mask_naming import MaskNamingMetric
from lexiseg.progress import with_progress
from lexiseg.types import ClassSplit, SegmentationDataset

ReadRegions = Callable[[np.ndarray, np.ndarray], Tensor]
"""A photograph ``(H, W, 3)`` uint8 RGB and its regions ``(N, H, W)`` bool to embeddings ``(N, E)``, not normalised."""


@dataclass(frozen=True)
class RegionAccuracy:
    """Shares of regions that were named right; NaN where there was none.

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

    Regions and shares are those of ``masks=ground_truth`` (:mod:`lexiseg.evaluation.naming`); here nothing stands around the
    classifier.

    Args:
        read: The classifier.
        dataset: With labels.
        text: ``(K, E)`` unit embeddings of its classes.
    """
    metric = MaskNamingMetric(ClassSplit("regions", tuple(dataset.classes), setting="supervised"))
    given = GroundTruthMasks()
    for index in with_progress(range(len(dataset)), "naming regions", len(dataset)):
        sample = dataset[index]
        masks = given.masks(dataset, index, sample)
        if len(masks):
            vectors = F.normalize(read(sample.image, masks), dim=-1)
            named = (vectors @ text.to(vectors).T).argmax(1).cpu()
            metric.update(named, torch.from_numpy(masks), torch.from_numpy(sample.label.astype(np.int64)))
    scores = metric.compute()
    return RegionAccuracy(scores.masks, scores.accuracy, scores.class_accuracy)


def accuracy_facts(before: RegionAccuracy, after: RegionAccuracy) -> Iterator[str]:
    """Both in sentences."""
    yield f"{after.regions} regions named; right before and after:"
    yield f"{100 * before.mask_accuracy:.1f} % and {100 * after.mask_accuracy:.1f} % of all"
    yield f"{100 * before.class_accuracy:.1f} % and {100 * after.class_accuracy:.1f} % in the mean over classes"
