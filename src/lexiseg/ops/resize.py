"""Bilinear resizing as the published test pipelines do it: half-pixel centres, no antialiasing."""

import torch
from torch import Tensor

_WEIGHT_ONE = 2048
"""OpenCV's fixed-point one: interpolation weights are rounded to 11 bits."""


def keep_ratio_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Height and width when the shorter side becomes ``short_side`` and the ratio stays.

    The arithmetic is mmcv's, of which the order of operations decides some sizes by one pixel: the long
    side is computed first, then one factor for both sides, then ``int(side * factor + 0.5)``. There is no
    cap on the long side: 100×800 becomes 512×4096.
    """
    short, long = min(size), max(size)
    factor = min(short_side * long / short / long, short_side / short)
    return int(size[0] * factor + 0.5), int(size[1] * factor + 0.5)


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an 8-bit image as OpenCV does, bit for bit: the published models saw such images.

    Only the source pixels that count are read, so huge photographs stay cheap. No antialiasing, on purpose.
    Follows the fixed-point arithmetic of ``cv2.resize(INTER_LINEAR)`` on 8-bit data: 11-bit weights, the
    row pass kept at full precision, the column pass truncated twice and rounded once.

    Args:
        image: ``(H, W, C)`` uint8.
        size: Target height and width.

    Returns:
        ``(h, w, C)`` uint8; the very tensor given when it has that size already.
    """
    if tuple(image.shape[:2]) == size:
        return image
    top, bottom, top_weight, bottom_weight = _taps(image.shape[0], size[0], image.device)
    left, right, left_weight, right_weight = _taps(image.shape[1], size[1], image.device)
    # Beyond the first and last pixel centre OpenCV drops the outer weight along rows only; along columns
    # both taps fall on the border row and the weights stay, which the truncations below make visible.
    same = left == right
    left_weight = torch.where(same, _WEIGHT_ONE, left_weight)
    right_weight = torch.where(same, 0, right_weight)
    left_weight, right_weight = left_weight[:, None], right_weight[:, None]

    def along_rows(rows: Tensor) -> Tensor:
        lines = image[rows]  # (h, W, C)
        return lines[:, left].int() * left_weight + lines[:, right].int() * right_weight

    upper = (along_rows(top) >> 4) * top_weight[:, None, None] >> 16
    lower = (along_rows(bottom) >> 4) * bottom_weight[:, None, None] >> 16
    return (upper + lower + 2 >> 2).clamp_(0, 255).to(torch.uint8)


def _taps(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per target position the two source positions and their weights in units of 1/2048."""
    centre = ((torch.arange(target, dtype=torch.float64) + 0.5) * (source / target) - 0.5).float()
    first = centre.floor()
    second_weight = ((centre - first) * _WEIGHT_ONE).round().int()
    first_weight = ((1 - (centre - first)) * _WEIGHT_ONE).round().int()
    start = first.long()
    taps = (start.clamp(0, source - 1), (start + 1).clamp(0, source - 1), first_weight, second_weight)
    return taps[0].to(device), taps[1].to(device), taps[2].to(device), taps[3].to(device)
