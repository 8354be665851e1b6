"""What is read from regions with a score per class besides a semantic map: things one by one, and all segments at once.

As MaskFormer (Cheng et al., NeurIPS 2021) and its followers do. Letters: N regions, K classes, H W pixels. Mask logits come
from a source of tiles, for those of all regions at a photograph's size would not fit: N · H · W numbers.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lexiseg.ops.class_chunks import TileSource
from lexiseg.ops.run_length import Counts, encode_rle
from lexiseg.types import chunks

Size = tuple[int, int]

_TINY_AREA = 1e-6
"""Added to the number of pixels of a mask, as Mask2Former does."""

_TILE_BYTES = 16 * 2**20
"""Logits of all kept regions held at once."""


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
        ids: ``(H, W)`` int32 segment numbers, 0 for none.
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
        runs: M run lengths of masks of ``size``; see :mod:`lexiseg.ops.run_length`.
        size: Height and width of a mask.
    """

    scores: Tensor
    class_ids: Tensor
    runs: tuple[Counts, ...]
    size: Size


def panoptic_map(
    masks: TileSource,
    scores: Tensor,
    nothing: Tensor | None,
    things: Tensor,
    *,
    size: Size,
    least_score: float = 0.0,
    least_visible: float = 0.8,
) -> PanopticMap:
    """Give every pixel to at most one region (MaskFormer, sec. 3.4, with Mask2Former's checks).

    A region whose best class is "no object" or scores no more than ``least_score`` is left out. Every pixel goes to the
    region of the highest score times mask, and counts only where that mask is at least 0.5. A region of which less than
    ``least_visible`` is left is dropped; regions of one stuff class become one segment.

    Besides a few rows of all regions, one number per pixel is held.

    Args:
        masks: Logits of the N regions at the size of the map.
        scores: ``(N, K)``.
        nothing: ``(N,)`` score of "no object"; None where there is none.
        things: ``(K,)`` bool, classes that are counted one by one.
        size: Height and width of the map.
        least_score: In [0, 1]; 0 in FC-CLIP, 0.8 in Mask2Former.
        least_visible: In [0, 1], share of a mask that must not be hidden by others.
    """
    best, class_ids = scores.max(dim=-1)
    kept = best > least_score
    if nothing is not None:
        kept &= best >= nothing
    if not kept.any():
        return PanopticMap(torch.zeros(size, dtype=torch.int32, device=scores.device), ())
    owners, whole, visible, seen = _competition(masks, kept.nonzero()[:, 0], best[kept], size)
    segments: list[PanopticSegment] = []
    of_class: dict[int, int] = {}
    numbers = torch.zeros(len(whole) + 1, dtype=torch.int32)
    found = (best[kept].tolist(), class_ids[kept].tolist(), whole.tolist(), visible.tolist(), seen.tolist())
    for region, (score, class_id, inside, own, area) in enumerate(zip(*found, strict=True)):
        if not area or own / inside < least_visible:
            continue
        thing = bool(things[class_id])
        number = None if thing else of_class.get(class_id)
        if number is None:
            number = of_class[class_id] = len(segments) + 1
            segments.append(PanopticSegment(number, class_id, thing, area, score))
        else:
            same = segments[number - 1]
            segments[number - 1] = PanopticSegment(
                number, class_id, thing, same.area + area, max(same.score, score)
            )
        numbers[region] = number
    ids = numbers.to(owners.device).index_select(0, owners.flatten())
    return PanopticMap(ids.view(size), tuple(segments))


def _competition(
    masks: TileSource, regions: Tensor, best: Tensor, size: Size
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whose each pixel is.

    Returns:
        ``(H, W)`` int32 index into ``regions``, one beyond the last where nobody's mask is inside; and of each region the
        pixels ``(N,)`` int64 inside its mask, those that it wins, and those that are both.
    """
    count = len(regions)
    owners = torch.empty(size, dtype=torch.int32, device=best.device)
    whole, visible, seen = (torch.zeros(count, dtype=torch.int64) for _ in range(3))
    first, last = int(regions[0]), int(regions[-1]) + 1
    for rows in chunks(size[0], max(1, _TILE_BYTES // (4 * (last - first) * size[1]))):
        tile = masks.tile(rows, slice(0, size[1]), slice(first, last))[:, regions - first].sigmoid_()
        winner = (best[:, None] * tile).argmax(dim=1)  # (R, W)
        inside = tile >= 0.5
        won = inside.gather(1, winner[:, None])[:, 0]
        whole += inside.sum(dim=(0, 2)).cpu()
        visible += torch.bincount(winner.flatten(), minlength=count).cpu()
        seen += torch.bincount(winner[won], minlength=count).cpu()
        owners[rows] = torch.where(won, winner, count).to(torch.int32)
    return owners, whole, visible, seen


def instances(masks: TileSource, scores: Tensor, things: Tensor, *, size: Size, most: int = 100) -> Instances:
    """Things one by one (Mask2Former): the best pairs of a region and a class, whatever they overlap.

    The best ``most`` pairs are taken before stuff classes are left out, as released, so that fewer may remain. The score
    is that of the class times the mean of the mask where it is above 0.5. One region at a time is at the size of the map.

    Args:
        masks: Logits of the N regions at the size of the map.
        scores: ``(N, K)``, "no object" left out.
        things: ``(K,)`` bool.
        size: Height and width of the map.
        most: Pairs at most.
    """
    classes = scores.shape[-1]
    best, pairs = scores.flatten().topk(min(most, scores.numel()))
    kept = things[pairs % classes]
    best, pairs = best[kept], pairs[kept]
    regions = pairs.div(classes, rounding_mode="floor").tolist()
    found = {region: _region(masks, region, size) for region in dict.fromkeys(regions)}
    quality = best.new_tensor([found[region][1] for region in regions])
    final, order = (best * quality).sort(descending=True, stable=True)
    runs = tuple(found[regions[index]][0] for index in order.tolist())
    return Instances(final, (pairs % classes)[order], runs, size)


def _region(masks: TileSource, region: int, size: Size) -> tuple[Counts, float]:
    """Run lengths of where a region's mask is above 0.5, and the mask's mean there."""
    logits = masks.tile(slice(0, size[0]), slice(0, size[1]), slice(region, region + 1))[:, 0]
    inside = logits > 0
    pixels = inside.to(logits.dtype)
    quality = (logits.sigmoid_() * pixels).sum() / (pixels.sum() + _TINY_AREA)
    return np.array(encode_rle(inside.cpu().numpy()), dtype=np.int64), float(quality)
