"""Panoptic quality over a whole data set, with the means of zero-shot segmentation."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import PanopticQuality

from lexiseg.segments import NO_SEGMENT, Segments
from lexiseg.types import ClassSplit


@dataclass
class PanopticScores:
    """Panoptic quality and its two factors, as fractions of 1; means are over classes that were there or were found.

    Attributes:
        pq: Panoptic quality, the mean over classes.
        sq: Segmentation quality: IoU of the segments that were matched.
        rq: Recognition quality: F1 of the matches.
        things: Panoptic quality over things; NaN over no class.
        stuff: Over stuff.
        seen: Over seen classes.
        unseen: Over unseen classes.
        per_class: ``pq``, ``sq``, ``rq`` by class name, NaN for a class that was neither there nor found.
    """

    pq: float
    sq: float
    rq: float
    things: float
    stuff: float
    seen: float
    unseen: float
    per_class: dict[str, dict[str, float]]

    def summary(self) -> dict[str, float]:
        """All but the classes."""
        return {key: value for key, value in vars(self).items() if key != "per_class"}


class PanopticMetric(PanopticQuality):
    """Panoptic quality (Kirillov et al., CVPR 2019, eq. 1) by torchmetrics, counted as COCO's own tool does.

    Pixels that a prediction leaves out are a class of their own here, which no truth has. As "unknown" ones, torchmetrics would
    take them off the union, and forgive a segment that was missed if it lies under them.

    A crowd is void: predictions mostly on it count neither as right nor as wrong. COCO's tool forgives so only predictions of
    the crowd's class.

    Args:
        split: Class names, and which are seen.
        stuff_ids: Classes that are not counted one by one.
        background: Class 0 is what belongs to no class: no segment of it is asked for, and it has no score.
    """

    def __init__(self, split: ClassSplit, stuff_ids: Collection[int], *, background: bool = False) -> None:
        count = len(split.classes)
        self._things = [index for index in range(count) if index not in stuff_ids]
        super().__init__(self._things, [*sorted(stuff_ids), count])
        self.split, self.stuff_ids, self.background = split, tuple(sorted(stuff_ids)), background

    def update(self, ids: Tensor, classes: Tensor, truth: Segments) -> None:  # type: ignore[override]
        """Count the segments of one photograph.

        Args:
            ids: ``(H, W)`` predicted segment numbers.
            classes: ``(H, W)`` their classes, K where there is none.
            truth: Of the same size.
        """
        none = len(self.split.classes)
        found = torch.stack([classes.long(), ids.long()], dim=-1)
        table = np.full(NO_SEGMENT + 1, none + 1)
        counted = np.flatnonzero(~truth.crowds)
        table[counted] = truth.classes[counted]
        if self.background:
            table[: len(truth)][truth.classes == 0] = none
        numbers = torch.from_numpy(truth.ids.astype(np.int64))
        there = torch.stack([torch.from_numpy(table)[numbers], numbers], dim=-1)
        super().update(found[None], there[None])

    def compute(self) -> PanopticScores:  # type: ignore[override]
        """All scores."""
        order = torch.tensor(
            [*self._things, *self.stuff_ids]
        )  # in which torchmetrics keeps them; "none" comes last
        hit, iou = self.true_positives[:-1].double(), self.iou_sum[:-1]
        wrong = (self.false_positives + self.false_negatives)[:-1].double()
        quality = torch.full((3, len(order)), torch.nan, dtype=torch.double)
        there = (hit + wrong > 0).cpu()
        sq = torch.where(hit > 0, iou / hit, 0.0)
        rq = hit / (hit + wrong / 2)
        quality[:, order] = torch.where(there, torch.stack([sq * rq, sq, rq]).cpu(), torch.nan)
        pq = quality[0]

        def mean(ids: Collection[int]) -> float:
            return float(pq[list(ids)].nanmean())

        names = ("pq", "sq", "rq")
        over_all = quality.nanmean(dim=1).tolist()
        return PanopticScores(
            pq=over_all[0],
            sq=over_all[1],
            rq=over_all[2],
            things=mean(self._things),
            stuff=mean(self.stuff_ids),
            seen=mean(self.split.seen_ids),
            unseen=mean(self.split.unseen_ids),
            per_class={
                name: dict(zip(names, quality[:, index].tolist(), strict=True))
                for index, name in enumerate(self.split.classes)
            },
        )
