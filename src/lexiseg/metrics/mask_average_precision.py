"""Mask AP over a whole data set as a torchmetrics metric."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from lexiseg.metrics.average_precision import IOU_THRESHOLDS, average_precision, match_masks
from lexiseg.segments import Segments
from lexiseg.types import ClassSplit


@dataclass
class MaskAPScores:
    """Mask AP, as fractions of 1; means are over things with a true mask, NaN over no class.

    Attributes:
        ap: Over IoU thresholds 0.5 to 0.95.
        ap50: At 0.5.
        ap75: At 0.75.
        seen: ``ap`` over seen classes.
        unseen: ``ap`` over unseen classes.
        per_class: ``ap`` and ``ap50`` by class name, of things.
    """

    ap: float
    ap50: float
    ap75: float
    seen: float
    unseen: float
    per_class: dict[str, dict[str, float]]

    def summary(self) -> dict[str, float]:
        """All but the classes."""
        return {key: value for key, value in vars(self).items() if key != "per_class"}


class MaskAveragePrecision(Metric):
    """COCO's mask AP of things (Lin et al., ECCV 2014), without its limit of 100 found ones of a class and photograph.

    torchmetrics' own class of this needs torchvision and COCO's compiled tool; this one needs neither, since the true masks of
    a photograph do not overlap: one histogram over their map counts what a found mask shares with each.

    Args:
        split: Class names, and which are seen.
        stuff_ids: Classes that are not counted one by one, and so not here.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    classes: list[Tensor]
    found: list[Tensor]
    positives: Tensor

    def __init__(self, split: ClassSplit, stuff_ids: Collection[int]) -> None:
        super().__init__()
        self.split, self.stuff_ids = split, tuple(sorted(stuff_ids))
        self.thresholds = torch.tensor(IOU_THRESHOLDS, dtype=torch.double)
        for name in ("scores", "classes", "found"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        zeros = torch.zeros(len(split.classes), dtype=torch.long)
        self.add_state("positives", default=zeros, dist_reduce_fx="sum")

    def update(
        self,
        masks: Iterable[npt.NDArray[np.bool_]],
        scores: Sequence[float],
        classes: Sequence[int],
        truth: Segments,
    ) -> None:
        """Match the things of one photograph.

        Args:
            masks: D masks ``(H, W)``, made one after the other if need be.
            scores: Of each, descending.
            classes: Of each.
            truth: Segments of the same size.
        """
        areas = np.bincount(truth.ids.ravel(), minlength=len(truth))[: len(truth)]
        shared = np.zeros((len(scores), len(truth)))
        own = np.zeros(len(scores))
        for index, mask in enumerate(masks):
            shared[index] = np.bincount(truth.ids[mask], minlength=len(truth))[: len(truth)]
            own[index] = mask.sum()
        union = np.where(truth.crowds, own[:, None], own[:, None] + areas - shared)
        iou = torch.from_numpy(shared / np.maximum(union, 1))
        there, crowds = torch.from_numpy(truth.classes), torch.from_numpy(truth.crowds)
        counted = ~crowds & torch.from_numpy(truth.things & (areas > 0))
        self.positives += torch.bincount(there[counted], minlength=len(self.positives)).to(self.positives)
        named = torch.tensor(classes, dtype=torch.long)
        found = torch.zeros(len(scores), len(self.thresholds), dtype=torch.uint8)
        for class_id in named.unique().tolist():
            rows, columns = named == class_id, there == class_id
            found[rows] = match_masks(iou[rows][:, columns], crowds[columns], self.thresholds)
        self.scores.append(torch.tensor(scores, dtype=torch.double))
        self.classes.append(named)
        self.found.append(found)

    def compute(self) -> MaskAPScores:
        """All scores."""
        scores, classes, found = (self._joined(name) for name in ("scores", "classes", "found"))
        ap = torch.full((len(self.thresholds), len(self.split.classes)), torch.nan, dtype=torch.double)
        for index in range(len(self.split.classes)):
            if index not in self.stuff_ids and self.positives[index]:
                mine = classes == index
                ap[:, index] = average_precision(scores[mine], found[mine], int(self.positives[index]))
        mean = ap.mean(dim=0)
        at_half, at_three_quarters = ap[0], ap[5]
        things = [index for index in range(len(self.split.classes)) if index not in self.stuff_ids]
        return MaskAPScores(
            ap=float(mean.nanmean()),
            ap50=float(at_half.nanmean()),
            ap75=float(at_three_quarters.nanmean()),
            seen=float(mean[list(self.split.seen_ids)].nanmean()),
            unseen=float(mean[list(self.split.unseen_ids)].nanmean()),
            per_class={
                self.split.classes[index]: {"ap": float(mean[index]), "ap50": float(at_half[index])}
                for index in things
            },
        )

    def _joined(self, name: str) -> Tensor:
        """One tensor of what was kept of all photographs; after a sync of processes it is one already."""
        state: list[Tensor] | Tensor = getattr(self, name)
        return state.cpu() if isinstance(state, Tensor) else torch.cat([each.cpu() for each in state])
