"""Scores of zero-shot segmentation from one confusion matrix over the whole data set: pure functions."""

from dataclasses import dataclass
from math import isnan

import torch
from torch import Tensor

from lexiseg.errors import DataError
from lexiseg.label_codes import label_codes
from lexiseg.types import ClassSplit


def confusion_matrix(
    predicted: Tensor,
    label: Tensor,
    num_classes: int,
    *,
    ignore_index: int | None = None,
    rejection: bool = False,
) -> Tensor:
    """Count pixels by true class (row) and predicted class (column).

    Args:
        predicted: Class ids of any shape.
        label: True ids of the same shape; pixels of ``ignore_index`` do not count.
        num_classes: K.
        ignore_index: Label that takes no part; None: ``label_codes(K).ignore``.
        rejection: Predictions may hold K, "no class": a miss of the true class, and a hit of none.

    Returns:
        ``(K, K)`` int64, or ``(K, K + 1)`` with rejection.

    Raises:
        DataError: Shapes differ, or an id lies outside its range.
    """
    if predicted.shape != label.shape:
        raise DataError(
            f"a prediction of {tuple(predicted.shape)} cannot be scored on labels of {tuple(label.shape)}; "
            "both must have the same size"
        )
    if ignore_index is None:
        ignore_index = label_codes(num_classes).ignore
    if label.dtype == torch.uint16:  # torch compares and picks few things in this type
        label = label.int()
    counted = label != ignore_index
    true, chosen = label[counted].long(), predicted[counted].long()
    columns = num_classes + rejection
    _check_range("label", true, num_classes, f"or {ignore_index} for ignored pixels")
    _check_range("prediction", chosen, columns, "which the vocabulary must match")
    counts = torch.bincount(true * columns + chosen, minlength=num_classes * columns)
    return counts.view(num_classes, columns)


def class_iou(confusion: Tensor) -> Tensor:
    """``(K,)`` float64 intersection over union; NaN for a class without a single true pixel.

    mmsegmentation gives 0 to a class that is absent from the labels but predicted somewhere; here it is NaN,
    for a class that cannot be right should not enter a mean. Where every class occurs the two agree. The
    wrong predictions still count against the classes that they were taken from.
    """
    square = confusion[:, : len(confusion)].double()
    hit, true = square.diagonal(), confusion.sum(1).double()
    union = true + square.sum(0) - hit
    return torch.where(true > 0, hit / union, torch.nan)


def class_accuracy(confusion: Tensor) -> Tensor:
    """``(K,)`` float64 share of each class's pixels that were found; NaN for a class without any."""
    true = confusion.sum(1).double()
    return torch.where(true > 0, confusion.diagonal().double() / true, torch.nan)


def harmonic_mean(seen: float, unseen: float) -> float:
    """``2 s u / (s + u)``; 0 where both are 0, NaN where either is NaN."""
    return 0.0 if seen == 0 and unseen == 0 else 2 * seen * unseen / (seen + unseen)


@dataclass
class ZeroShotScores:
    """All scores of one confusion matrix, as fractions of 1.

    Means skip classes that do not occur in the labels, but for ``miou_absent_as_zero``; the mean over no class is NaN.
    Published figures of a set with absent classes are of either kind: of PASCAL Context-459, whose validation labels show 345
    classes, FC-CLIP's is the mean over those and SAN's the one over all 459.

    Attributes:
        seen: Mean IoU over seen classes.
        unseen: Mean IoU over unseen classes.
        harmonic: Harmonic mean of the two; NaN if either is.
        miou: Mean IoU over all classes that occur in the labels.
        miou_absent_as_zero: Mean IoU over all classes of the split, a class that does not occur counted as 0.
        pixel_accuracy: Share of all counted pixels that are right.
        iou: IoU per class name.
        accuracy: Accuracy per class name.
    """

    seen: float
    unseen: float
    harmonic: float
    miou: float
    miou_absent_as_zero: float
    pixel_accuracy: float
    iou: dict[str, float]
    accuracy: dict[str, float]

    def summary(self) -> dict[str, float]:
        """The five scores that tables and logs show, and ``miou_absent_as_zero`` where some but not all classes occur."""
        absent = sum(isnan(value) for value in self.iou.values())
        both = ("miou", "miou_absent_as_zero") if 0 < absent < len(self.iou) else ("miou",)
        return {key: getattr(self, key) for key in ("seen", "unseen", "harmonic", *both, "pixel_accuracy")}

    def per_class(self) -> dict[str, float]:
        """IoU per class name."""
        return dict(self.iou)


def zero_shot_scores(confusion: Tensor, split: ClassSplit) -> ZeroShotScores:
    """Score a confusion matrix under a split; rows are the split's classes in order."""
    confusion = confusion.cpu()
    iou, accuracy = class_iou(confusion), class_accuracy(confusion)
    seen, unseen = (_mean(iou[list(ids)]) for ids in (split.seen_ids, split.unseen_ids))
    total = int(confusion.sum())
    return ZeroShotScores(
        seen=seen,
        unseen=unseen,
        harmonic=harmonic_mean(seen, unseen),
        miou=_mean(iou),
        miou_absent_as_zero=float(iou.nan_to_num(nan=0.0).mean()) if total else float("nan"),
        pixel_accuracy=int(confusion.diagonal().sum()) / total if total else float("nan"),
        iou=dict(zip(split.classes, iou.tolist(), strict=True)),
        accuracy=dict(zip(split.classes, accuracy.tolist(), strict=True)),
    )


def _mean(values: Tensor) -> float:
    return float(values.nanmean()) if len(values) else float("nan")


def _check_range(what: str, ids: Tensor, count: int, hint: str) -> None:
    if not len(ids):
        return
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        raise DataError(f"{what} id {wrong} is outside the schema: expected 0 to {count - 1}, {hint}")
