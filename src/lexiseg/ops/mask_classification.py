"""What is read from regions with a score per class: semantic maps, things one by one, and both at once.

As MaskFormer (Cheng et al., NeurIPS 2021) and its followers do. Letters: N regions, K classes, H W pixels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

MapOrder = Literal["masks first", "scores last"]
"""What is brought to the photograph's size: mask logits, before the sigmoid, or the class scores made of them."""

Size = tuple[int, int]

_TINY_AREA = 1e-6
"""Added to the number of pixels of a mask, as Mask2Former does."""


@dataclass(frozen=True)
class PanopticSegment:
    """One segment of a panoptic map.

    Attributes:
        id: Its number in the map, from 1.
        class_id: Its class.
        thing: Whether its class counts things; a class that does not has one segment at most.
        area: Its pixels.
        score: Of its class, in [0, 1]; of stuff that several regions make up, the highest.
    """

    id: int
    class_id: int
    thing: bool
    area: int
    score: float


@dataclass(frozen=True)
class PanopticMap:
    """Every pixel in one segment or in none.

    Attributes:
        ids: ``(H, W)`` int64 segment numbers, 0 for none.
        segments: Ascending by number.
    """

    ids: Tensor
    segments: tuple[PanopticSegment, ...]


@dataclass(frozen=True)
class Instances:
    """Things one by one; masks may overlap.

    Attributes:
        scores: ``(M,)`` in [0, 1], descending.
        class_ids: ``(M,)`` int64.
        masks: ``(M, H, W)`` bool.
    """

    scores: Tensor
    class_ids: Tensor
    masks: Tensor


def full_size_masks(masks: Tensor, *, padded: Size, content: Size, size: Size) -> Tensor:
    """Mask logits at the photograph's size.

    Args:
        masks: ``(N, h, w)`` logits of the padded image, on any grid.
        padded: Height and width of the padded image.
        content: Of the picture in it, at the top left.
        size: Of the photograph.

    Returns:
        ``(N, H, W)``: up to the padded size, the padding cut off, on to the photograph; bilinear both times.
    """
    return _cut(_resized(masks, padded), content, size)


def semantic_map(
    masks: Tensor,
    scores: Tensor,
    *,
    padded: Size,
    content: Size,
    size: Size,
    order: MapOrder = "masks first",
) -> Tensor:
    """``sum_n p[n, k] · sigmoid(mask_n)`` at the photograph's size (MaskFormer, sec. 3.4).

    Args:
        masks: ``(N, h, w)`` mask logits, as in :func:`full_size_masks`.
        scores: ``(N, K)``, "no object" left out.
        padded: See :func:`full_size_masks`.
        content: Likewise.
        size: Likewise.
        order: ``masks first``: as FC-CLIP does for panoptic data sets. ``scores last``: the sum is taken on the padded image
            and then cut and resized, as its configurations for semantic data sets do.

    Returns:
        ``(K, H, W)``.
    """
    if order == "masks first":
        logits = full_size_masks(masks, padded=padded, content=content, size=size)
        return torch.einsum("nk,nhw->khw", scores, logits.sigmoid())
    maps = torch.einsum("nk,nhw->khw", scores, _resized(masks, padded).sigmoid())
    return _cut(maps, content, size)


def panoptic_map(
    masks: Tensor,
    scores: Tensor,
    nothing: Tensor | None,
    things: Tensor,
    *,
    least_score: float = 0.0,
    least_visible: float = 0.8,
) -> PanopticMap:
    """Give every pixel to at most one region (MaskFormer, sec. 3.4, with Mask2Former's checks).

    A region whose best class is "no object" or scores no more than ``least_score`` is left out. Every pixel goes to the
    region of the highest score times mask, and counts only where that mask is at least 0.5. A region of which less than
    ``least_visible`` is left is dropped; regions of one stuff class become one segment.

    Args:
        masks: ``(N, H, W)`` logits at the size of the map.
        scores: ``(N, K)``.
        nothing: ``(N,)`` score of "no object"; None where there is none.
        things: ``(K,)`` bool, classes that are counted one by one.
        least_score: In [0, 1]; 0 in FC-CLIP, 0.8 in Mask2Former.
        least_visible: In [0, 1], share of a mask that must not be hidden by others.
    """
    best, class_ids = scores.max(dim=-1)
    kept = best > least_score
    if nothing is not None:
        kept &= best >= nothing
    ids = torch.zeros(masks.shape[-2:], dtype=torch.int64, device=masks.device)
    if not kept.any():
        return PanopticMap(ids, ())
    best, class_ids, shown = best[kept], class_ids[kept], masks[kept].sigmoid()
    owner = (best[:, None, None] * shown).argmax(dim=0)
    segments: list[PanopticSegment] = []
    for region, (score, class_id) in enumerate(zip(best.tolist(), class_ids.tolist(), strict=True)):
        inside, own = shown[region] >= 0.5, owner == region
        visible, whole, seen = int(own.sum()), int(inside.sum()), own & inside
        if not whole or not seen.any() or visible / whole < least_visible:
            continue
        thing, area = bool(things[class_id]), int(seen.sum())
        same = next((each for each in segments if each.class_id == class_id and not thing), None)
        if same is None:
            same = PanopticSegment(len(segments) + 1, class_id, thing, area, score)
            segments.append(same)
        else:
            segments[same.id - 1] = PanopticSegment(
                same.id, class_id, thing, same.area + area, max(same.score, score)
            )
        ids[seen] = same.id
    return PanopticMap(ids, tuple(segments))


def instances(masks: Tensor, scores: Tensor, things: Tensor, *, most: int = 100) -> Instances:
    """Things one by one (Mask2Former): the best pairs of a region and a class, whatever they overlap.

    The best ``most`` pairs are taken before stuff classes are left out, as released, so that fewer may remain. The score
    is that of the class times the mean of the mask where it is above 0.5.

    Args:
        masks: ``(N, H, W)`` logits.
        scores: ``(N, K)``, "no object" left out.
        things: ``(K,)`` bool.
        most: Pairs at most.
    """
    classes = scores.shape[-1]
    best, pairs = scores.flatten().topk(min(most, scores.numel()))
    kept = things[pairs % classes]
    best, pairs = best[kept], pairs[kept]
    logits = masks[pairs.div(classes, rounding_mode="floor")]
    inside = logits > 0
    pixels = inside.flatten(1).to(logits.dtype)
    quality = (logits.flatten(1).sigmoid() * pixels).sum(dim=1) / (pixels.sum(dim=1) + _TINY_AREA)
    final, order = (best * quality).sort(descending=True, stable=True)
    return Instances(final, (pairs % classes)[order], inside[order])


def _resized(maps: Tensor, size: Size) -> Tensor:
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def _cut(maps: Tensor, content: Size, size: Size) -> Tensor:
    return _resized(maps[:, : content[0], : content[1]], size)
