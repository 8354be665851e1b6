"""From masks to the square pictures that a classifier of whole images reads: boxes, crops, fills.

Letters: N masks, H W pixels of the picture, S side of a crop.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

CropStyle = Literal["mask", "crop", "cropmask", "region"]
"""What the classifier sees of a region: ``mask`` the whole picture, all else blanked; ``crop`` its box; ``cropmask`` its
box, all else blanked (ZegFormer); ``region`` its tight box, all else blanked, resized bicubically (OVSeg)."""

NEVER_SEEN = -1.0
"""A sample further out than a pixel beyond the border reads zero (RoIAlign)."""


def change_colors(
    images: Tensor, content: tuple[int, int], given: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]
) -> Tensor:
    """Undo one normalisation and apply another; padding, right and below, is zero afterwards as it was before.

    Args:
        images: ``(B, 3, H, W)`` normalised.
        content: Height and width of the picture in them.
        given: Mean and deviation that they are normalised by, each ``(3, 1, 1)``, in 0-255.
        wanted: Those to normalise by, likewise.
    """
    height, width = content
    raw = images[..., :height, :width] * given[1] + given[0]
    padding = (0, images.shape[-1] - width, 0, images.shape[-2] - height)
    return F.pad((raw - wanted[0]) / wanted[1], padding)


def tight_boxes(masks: Tensor) -> Tensor:
    """First and last column and row of each mask.

    Args:
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N, 4)`` int64 ``x0, y0, x1, y1``, both ends inside the mask; ``0, 0, -1, -1`` for one without a pixel.
    """
    ends = []
    for axis in (1, 2):  # columns, then rows
        hit = masks.any(dim=axis)
        first = hit.int().argmax(1)
        last = hit.shape[1] - 1 - hit.flip(1).int().argmax(1)
        ends.append((first, last.where(hit.any(1), -1)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1)


def crop_boxes(masks: Tensor) -> Tensor:
    """ZegFormer's boxes: from the first to the **index** of the last pixel, so half a pixel short of the mask's right and end.

    A mask of one row, one column or one pixel, or of none, has the whole picture for a box (released code).

    Args:
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N, 4)`` int64 ``x0, y0, x1, y1``.
    """
    boxes = tight_boxes(masks)
    whole = boxes.new_tensor([0, 0, masks.shape[2], masks.shape[1]])
    flat = ((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]))[:, None]
    return whole.where(flat, boxes)


def roi_align(image: Tensor, box: tuple[float, float, float, float], side: int) -> Tensor:
    """RoIAlign of one box, aligned, with as many samples per bin and axis as keep them at most a pixel apart.

    Along each axis, sample i of ``n = side * s``, ``s = ceil(extent / side)``, lies at ``start - 0.5 + (i + 0.5) * extent /
    n`` on the centres of pixels, is read bilinearly, is clamped to the picture and is zero beyond ``[-1, size]``; a bin is
    the mean of its samples. Both axes are independent of each other, so one is resampled after the other (He et al., 2017,
    with detectron2's ``aligned=True``, ``sampling_ratio=-1``).

    Args:
        image: ``(C, H, W)``.
        box: ``x0, y0, x1, y1`` in pixels.
        side: S.

    Returns:
        ``(C, S, S)``.
    """
    height, width = image.shape[-2:]
    x0, y0, x1, y1 = box
    rows, row_weights = _bin_taps(y0, y1, height, side, image)
    columns, column_weights = _bin_taps(x0, x1, width, side, image)
    along = torch.einsum("cstw,st->csw", image[:, rows], row_weights)
    return torch.einsum("cyst,st->cys", along[:, :, columns], column_weights)


def _bin_taps(start: float, end: float, size: int, bins: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which pixels of an axis each bin reads, and how much of each: two ``(bins, 2 * s)`` tensors."""
    extent = end - start
    samples = max(math.ceil(extent / bins), 1)
    steps = torch.arange(bins * samples, device=like.device, dtype=torch.float32)
    places = start - 0.5 + (steps + 0.5) * (extent / (bins * samples))
    seen = (places >= NEVER_SEEN) & (places <= size)
    places = places.clamp(0, size - 1)
    low = places.floor()
    share = places - low
    pixels = torch.stack([low, (low + 1).clamp(max=size - 1)], dim=1).long()
    weights = torch.stack([1 - share, share], dim=1) * (seen / samples)[:, None]
    return pixels.view(bins, -1), weights.to(like.dtype).view(bins, -1)


def whole_crops(image: Tensor, masks: Tensor, side: int) -> Tensor:
    """The picture as a square, once per mask, and zero outside it.

    Args:
        image: ``(C, H, W)`` normalised, so that zero is the mean colour.
        masks: ``(N, H, W)`` logits, which are resized again: a pixel belongs to a mask where the sigmoid is above 0.5.
        side: S.

    Returns:
        ``(N, C, S, S)``.
    """
    square = F.interpolate(image[None], size=(side, side), mode="bilinear", align_corners=False)
    inside = F.interpolate(masks[:, None], size=(side, side), mode="bilinear", align_corners=False) > 0
    return square * inside


def aligned_crops(image: Tensor, masks: Tensor, side: int, *, blank: bool) -> Tensor:
    """The box of each mask as a square by RoIAlign.

    Args:
        image: ``(C, H, W)`` normalised.
        masks: ``(N, H, W)`` bool. One without a pixel gives the whole picture, blanked or not.
        side: S.
        blank: Whether all outside the mask is zero.

    Returns:
        ``(N, C, S, S)``.
    """
    boxes = crop_boxes(masks).tolist()
    crops = [
        roi_align(image * mask if blank else image, tuple(box), side)
        for mask, box in zip(masks, boxes, strict=True)
    ]
    return torch.stack(crops) if crops else image.new_zeros(0, len(image), side, side)


def region_crops(image: Tensor, masks: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """OVSeg's regions: the tight box of each mask, zero outside the mask, as a square whatever its ratio.

    The release fills with CLIP's mean colour before it normalises, which is zero here. Resized bicubically without
    antialiasing; the mask by nearest neighbour.

    Args:
        image: ``(C, H, W)`` normalised, without padding.
        masks: ``(N, H, W)`` bool, each with a pixel.
        side: S.

    Returns:
        Regions ``(N, C, S, S)`` and their masks ``(N, S, S)`` bool.
    """
    regions, insides = [image.new_zeros(0, len(image), side, side)], [masks.new_zeros(0, side, side)]
    for mask, (x0, y0, x1, y1) in zip(masks, tight_boxes(masks).tolist(), strict=True):
        rows, columns = slice(y0, y1 + 1), slice(x0, x1 + 1)
        region, inside = square_region(image[:, rows, columns], mask[rows, columns], side)
        regions.append(region[None])
        insides.append(inside[None])
    return torch.cat(regions), torch.cat(insides)


def square_region(window: Tensor, inside: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """One of :func:`region_crops`, of a window that is known.

    Args:
        window: ``(C, h, w)`` of the picture.
        inside: ``(h, w)`` bool, the region in it.
        side: S.

    Returns:
        ``(C, S, S)`` and ``(S, S)`` bool.
    """
    size = (side, side)
    region = F.interpolate((window * inside)[None], size=size, mode="bicubic", align_corners=False)[0]
    return region, F.interpolate(inside[None, None].float(), size=size, mode="nearest")[0, 0] > 0


def covered_patches(masks: Tensor, patch: int) -> Tensor:
    """Patches that hold any pixel of a mask.

    Args:
        masks: ``(N, S, S)`` bool, S a multiple of ``patch``.
        patch: Side of a patch.

    Returns:
        ``(N, P)`` bool, row-major.
    """
    return F.max_pool2d(masks[:, None].float(), patch).flatten(1) > 0


def not_filled(pictures: Tensor, fill: tuple[int, int, int] = (124, 116, 103)) -> Tensor:
    """Masks of stored regions whose surroundings were painted over: pixels that are not exactly of that colour.

    Args:
        pictures: ``(N, 3, S, S)`` in 0-255, already resized, so mixed pixels at the border count as inside (OVSeg).
        fill: RGB.

    Returns:
        ``(N, S, S)`` bool.
    """
    return (pictures != pictures.new_tensor(fill).view(3, 1, 1)).any(1)
