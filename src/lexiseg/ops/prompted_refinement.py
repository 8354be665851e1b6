"""Labels drawn anew by a model that answers prompts: each region asks with a box, a point and its class's map (Trident, 3.4).

The numbers are those of the release, which works at half the photograph's size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from lexiseg.ops.resize import fit_within

Size = tuple[int, int]

ClassMap = Callable[[int], Tensor]
"""A class to its probabilities ``(H, W)`` at the photograph's size."""


@dataclass(frozen=True)
class RefinementSettings:
    """What is asked, and which answers count.

    Attributes:
        threshold: Regions are of pixels whose best probability reaches it; a class that reaches it nowhere asks nothing.
        min_area: Pixels of a region at half size, at least.
        min_quality: An answer's predicted intersection over union must exceed it.
        mask_factor: Of the class's map as a prompt.
        restore_failed: Whether a region whose answer did not count keeps its labels where its old probability exceeds every
            new score. The release means to and does not.
    """

    threshold: float = 0.2
    min_area: int = 225
    min_quality: float = 0.8
    mask_factor: float = 0.005
    restore_failed: bool = True


@dataclass(frozen=True)
class Regions:
    """Connected pieces of one class.

    Attributes:
        masks: ``(R, h, w)`` bool.
        boxes: ``(R, 4)`` float: smallest x and y, largest x and y, of pixels inside.
        points: ``(R, 2)`` float: x and y of the pixel where the class is most probable, the first of equals.
    """

    masks: Tensor
    boxes: Tensor
    points: Tensor

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True)
class Prompts:
    """Of one class, in pixels of the answering model's square input.

    Attributes:
        points: ``(R, 2)``, one that lies inside, for each region.
        boxes: ``(R, 4)``.
        mask: ``(1, s, s)``, shared by all regions.
    """

    points: Tensor
    boxes: Tensor
    mask: Tensor


@dataclass
class Redrawn:
    """What the answers made of the classes that asked.

    Attributes:
        scores: Class to its scores ``(H, W)``; classes without an answer that counts are missing: 0 everywhere.
        failed: ``(H, W)`` bool, where a region's answer did not count; None: nowhere.
    """

    scores: dict[int, Tensor] = field(default_factory=dict)
    failed: Tensor | None = None

    def score(self, index: int, probability: Tensor) -> Tensor:
        """Final scores of a class: in failed regions its old probability stands in for a smaller score."""
        score = self.scores.get(index)
        score = torch.zeros_like(probability) if score is None else score
        return score if self.failed is None else torch.where(self.failed, score.maximum(probability), score)


Answer = Callable[[Prompts], tuple[Tensor, Tensor]]
"""Prompts to mask logits ``(R, H, W)`` at the photograph's size, and their predicted intersections over union ``(R,)``."""


def half_size(size: Size) -> Size:
    """Height and width that regions are looked for at."""
    return max(size[0] // 2, 1), max(size[1] // 2, 1)


def halved(probability: Tensor) -> Tensor:
    """Probabilities ``(H, W)`` at half size, bilinearly."""
    size = half_size((probability.shape[0], probability.shape[1]))
    return F.interpolate(probability[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def regions_to_ask(
    labels: Tensor, maps: ClassMap, classes: int, settings: RefinementSettings
) -> Iterator[tuple[int, Regions, Tensor]]:
    """Classes that have regions to ask about, with their probabilities at half size.

    Args:
        labels: ``(H, W)`` class ids; others than ``0 … classes - 1`` ask nothing.
        maps: Probabilities of each class.
        classes: How many.
        settings: See :class:`RefinementSettings`.
    """
    size = half_size((labels.shape[0], labels.shape[1]))
    small = F.interpolate(labels[None, None].float(), size=size, mode="nearest")[0, 0].long()
    best: Tensor | None = None
    if settings.threshold > 0:
        for index in range(classes):
            probability = halved(maps(index))
            best = probability if best is None else best.maximum(probability)
    for index in range(classes):
        mask = small == index
        if best is not None:
            mask &= best >= settings.threshold
        if int(mask.sum()) < max(settings.min_area, 1):
            continue
        probability = halved(maps(index))
        if probability.max() < settings.threshold:
            continue
        regions = connected_regions(mask, probability, settings.min_area)
        if len(regions):
            yield index, regions, probability


def connected_regions(mask: Tensor, probability: Tensor, min_area: int) -> Regions:
    """Pieces of ``(h, w)`` bool connected by edges or corners, in the order of their first pixels.

    Args:
        mask: The pixels of a class.
        probability: ``(h, w)`` of the class.
        min_area: Smaller pieces are left out.
    """
    pieces, found = ndimage.label(mask.cpu().numpy(), structure=np.ones((3, 3)))
    areas = np.bincount(pieces.ravel(), minlength=found + 1)
    kept = [index for index in range(1, found + 1) if areas[index] >= min_area]
    width = mask.shape[1]
    masks = torch.from_numpy(pieces == np.array(kept).reshape(-1, 1, 1)).to(mask.device)
    boxes, points = [], []
    for inside in masks:
        y, x = inside.nonzero(as_tuple=True)
        boxes.append([int(x.min()), int(y.min()), int(x.max()), int(y.max())])
        place = int((probability * inside).argmax())
        points.append([place % width, place // width])
    return Regions(
        masks,
        torch.tensor(boxes, dtype=torch.float32, device=mask.device).view(-1, 4),
        torch.tensor(points, dtype=torch.float32, device=mask.device).view(-1, 2),
    )


def prompts_for(
    regions: Regions,
    probability: Tensor,
    size: Size,
    *,
    side: int,
    mask_side: int,
    settings: RefinementSettings,
) -> Prompts:
    """Regions of a class in the frame of a model that brings a photograph's longer side to ``side``.

    Boxes and points are scaled by what that rule makes of half the photograph's size, as released: where a side is odd they
    are up to about two pixels of 1024 off.

    Args:
        regions: Of one class, at half size.
        probability: ``(h, w)`` of the class at half size.
        size: Height and width of the photograph.
        side: Of the model's square input.
        mask_side: Of the square that it takes a mask prompt on.
        settings: See :class:`RefinementSettings`.
    """
    half = (probability.shape[0], probability.shape[1])
    inner = fit_within(half, side, side)
    scale = regions.points.new_tensor([inner[1] / half[1], inner[0] / half[0]])
    height, width = fit_within(size, mask_side, mask_side)
    mask = F.interpolate(probability[None, None], size=(height, width), mode="bilinear", align_corners=False)[
        0
    ]
    mask = torch.where(mask > settings.threshold, settings.mask_factor * mask, 0.0)
    mask = F.pad(mask, (0, mask_side - width, 0, mask_side - height))
    return Prompts(regions.points * scale, regions.boxes * scale.repeat(2), mask)


def class_scores(logits: Tensor, probability: Tensor) -> Tensor:
    """Scores ``(H, W)`` of a class: the largest of its answers' sigmoids times its probability, inside its answers.

    Args:
        logits: ``(R, H, W)`` of the answers that count.
        probability: ``(H, W)``.
    """
    scores = (logits.sigmoid() * probability).amax(dim=0)
    return scores * (logits > 0).any(dim=0)


def redraw(
    labels: Tensor,
    maps: ClassMap,
    classes: int,
    answer: Answer,
    *,
    side: int,
    mask_side: int,
    settings: RefinementSettings,
) -> Redrawn | None:
    """Ask about every region of every class; None where no answer counts.

    Args:
        labels: ``(H, W)`` class ids.
        maps: Probabilities of each class.
        classes: How many.
        answer: The model.
        side: Of its input.
        mask_side: Of its mask prompt.
        settings: See :class:`RefinementSettings`.
    """
    size = (labels.shape[0], labels.shape[1])
    redrawn = Redrawn()
    failed: list[Tensor] = []
    for index, regions, probability in regions_to_ask(labels, maps, classes, settings):
        prompts = prompts_for(regions, probability, size, side=side, mask_side=mask_side, settings=settings)
        logits, qualities = answer(prompts)
        sure = qualities > settings.min_quality
        if not sure.all():
            failed.append(regions.masks[~sure].any(dim=0))
        if sure.any():
            redrawn.scores[index] = class_scores(logits[sure].float(), maps(index))
    if not redrawn.scores:
        return None
    if failed:
        together = torch.stack(failed).any(dim=0)
        redrawn.failed = F.interpolate(together[None, None].float(), size=size, mode="nearest")[0, 0] > 0
    return redrawn


def settle(
    redrawn: Redrawn, labels: Tensor, maps: ClassMap, classes: int, *, restore_failed: bool
) -> tuple[Tensor, Tensor]:
    """Labels after the answers, and their scores.

    Args:
        redrawn: From :func:`redraw`.
        labels: ``(H, W)`` old class ids.
        maps: Old probabilities of each class.
        classes: How many.
        restore_failed: As in :class:`RefinementSettings`.

    Returns:
        ``(H, W)`` class ids of the highest score, the old ones where no score is above 0; and ``(H, W)`` highest scores.
    """
    settled, best = labels.clone(), torch.zeros(labels.shape, device=labels.device)
    for index in sorted(redrawn.scores):
        score = redrawn.scores[index]
        better = score > best
        settled[better] = index
        best = torch.where(better, score, best)
    if redrawn.failed is None:
        return settled, best
    old = torch.zeros_like(best)
    for index in range(classes):
        old = old.maximum(maps(index))
    back = redrawn.failed & (old > best)
    if restore_failed:
        settled[back] = labels[back]
    return settled, torch.where(back, old, best)
