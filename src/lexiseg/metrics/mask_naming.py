"""Zero-shot mask classification: how many masks without names got the right one."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from lexiseg.label_codes import label_codes
from lexiseg.metrics.functional import class_accuracy, confusion_matrix
from lexiseg.types import ClassSplit


def mask_truth(masks: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """The class that most pixels of each mask have.

    Args:
        masks: ``(M, H, W)`` bool; they may overlap.
        label: ``(H, W)`` true ids from 0 to K - 1; every other value is a pixel without truth.
        num_classes: K.

    Returns:
        ``(M,)`` int64; of classes with equally many pixels the first. ``label_codes(K).ignore`` where more pixels have no
        truth than have the class, and for a mask without a pixel: these count for nothing.
    """
    ignore = label_codes(num_classes).ignore
    flat = label.long().flatten()
    codes = torch.where(
        (flat >= 0) & (flat < num_classes), flat, num_classes
    )  # one more, of pixels without truth
    if not len(masks):
        return flat.new_empty(0)
    # One mask at a time: a table of all masks, classes and pixels would not fit.
    counts = torch.stack(
        [torch.bincount(codes[mask], minlength=num_classes + 1) for mask in masks.flatten(1)]
    )
    most, truth = counts[:, :num_classes].max(dim=1)
    return torch.where((most > 0) & (most >= counts[:, num_classes]), truth, ignore)


@dataclass
class MaskScores:
    """Scores of the names of masks, as fractions of 1; NaN where there was no mask.

    Attributes:
        masks: How many masks had a truth.
        accuracy: Share of them that got the right name: the mean over masks.
        class_accuracy: Mean over the classes that some mask has of each one's share: small and rare classes weigh as much.
        seen: The same over seen classes.
        unseen: The same over unseen classes.
        per_class: Share of each class's masks, by name.
    """

    masks: int
    accuracy: float
    class_accuracy: float
    seen: float
    unseen: float
    per_class: dict[str, float]

    def summary(self) -> dict[str, float]:
        """As reports and tables call them."""
        return {
            "mask_accuracy": self.accuracy,
            "mask_class_accuracy": self.class_accuracy,
            "mask_class_accuracy_seen": self.seen,
            "mask_class_accuracy_unseen": self.unseen,
        }


def mask_scores(confusion: Tensor, split: ClassSplit) -> MaskScores:
    """Scores of ``(K, K)`` counts of masks by true class (row) and name (column), the split's classes in order."""
    confusion = confusion.cpu()
    shares, total = class_accuracy(confusion), int(confusion.sum())
    means = [float(shares[list(ids)].nanmean()) for ids in (split.seen_ids, split.unseen_ids)]
    return MaskScores(
        masks=total,
        accuracy=int(confusion.diagonal().sum()) / total if total else float("nan"),
        class_accuracy=float(shares.nanmean()),
        seen=means[0],
        unseen=means[1],
        per_class=dict(zip(split.classes, shares.tolist(), strict=True)),
    )


class MaskNamingMetric(Metric):
    """Accuracy of the names of masks over a whole data set: mean over masks, and over classes.

    The state is one integer matrix, summed over processes, as `ZeroShotMetric`'s is.

    Args:
        split: Class names and which are seen; ids are its order.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, split: ClassSplit) -> None:
        super().__init__()
        self.split = split
        count = len(split.classes)
        self.add_state("confusion", default=torch.zeros(count, count, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, named: Tensor, masks: Tensor, label: Tensor) -> None:
        """Count the masks of one photograph.

        Args:
            named: ``(M,)`` class of each mask.
            masks: ``(M, H, W)`` bool.
            label: ``(H, W)`` true ids.

        Raises:
            DataError: A name that is no class.
        """
        count = len(self.split.classes)
        self.confusion += confusion_matrix(named, mask_truth(masks, label, count), count)

    def compute(self) -> MaskScores:
        """All scores, as fractions."""
        return mask_scores(self.confusion, self.split)
