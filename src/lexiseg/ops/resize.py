"""Resizing of 8-bit images and their labels as the published pipelines do it, in training and at test time.

mmsegmentation's resize with OpenCV: images bilinear with half-pixel centres and no antialiasing, labels to the nearest
pixel; detectron2's with Pillow, which shrinks with antialiasing. The published numbers decide every rounding here, so
nothing else may resize a photograph for a model.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_WEIGHT_ONE = 2048
"""OpenCV's fixed-point one: interpolation weights are rounded to 11 bits."""


def fit_within(size: tuple[int, int], long_side: float, short_side: float) -> tuple[int, int]:
    """Height and width scaled so that neither side exceeds its bound; halves round up, as in mmcv."""
    factor = min(long_side / max(size), short_side / min(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def keep_ratio_size(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Height and width when the shorter side becomes ``short_side`` and the ratio stays.

    The arithmetic is mmcv's, of which the order of operations decides some sizes by one pixel: the long
    side is computed first, then one factor for both sides. There is no cap on the long side, although the published
    test scale is written (2048, 512): 100×800 becomes 512×4096.
    """
    return fit_within(size, short_side * max(size) / min(size), short_side)


def shortest_edge_size(size: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width when the shorter side becomes ``short_side``, or the longer one ``long_side`` if it would be longer.

    The arithmetic is that of detectron2's resizing of the shortest edge; halves round up.
    """
    factor = short_side / min(size)
    height, width = (short_side, factor * size[1]) if size[0] < size[1] else (factor * size[0], short_side)
    if max(height, width) > long_side:
        factor = long_side / max(height, width)
        height, width = height * factor, width * factor
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def patch_grid_size(size: tuple[int, int], patch: int, at_least: int = 1) -> tuple[int, int]:
    """Height and width of whole patches for an image that is to be cut into them nowhere (Trident's rule).

    What is whole patches stays. Otherwise the longer side goes up to the next multiple of the patch, the other one by the
    same ratio, rounded down, and then up to a multiple too; both become ``at_least`` long.
    """
    if all(side % patch == 0 for side in size):
        return size
    longer = _multiple(max(size), patch)
    height, width = (max(_multiple(int(side * longer / max(size)), patch), at_least) for side in size)
    return height, width


def _multiple(side: int, patch: int) -> int:
    return -(-side // patch) * patch


def resize_image_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an 8-bit image bilinearly as Pillow does, which averages when it shrinks; shapes as :func:`resize_image`."""
    if tuple(image.shape[:2]) == size:
        return image
    height, width = size
    resized = Image.fromarray(image.cpu().numpy()).resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).to(image.device)


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
    top, bottom, top_weight, bottom_weight = _taps(image.shape[0], size[0])
    rows, places = torch.cat([top, bottom]).unique(return_inverse=True)
    lines = _along_rows(image[rows.to(image.device)], size[1]) >> 4
    upper, lower = (
        lines[place.to(image.device)].mul_(weight.to(image.device)[:, None, None]) >> 16
        for place, weight in zip(places.chunk(2), (top_weight, bottom_weight), strict=True)
    )
    return (upper.add_(lower).add_(2) >> 2).clamp_(0, 255).to(torch.uint8)


def resize_label(label: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize class ids ``(H, W)`` to ``(h, w)``: new row i shows old row ``floor(i * H / h)``, so ids never mix.

    ``cv2.resize(INTER_NEAREST)`` looks at the corners of pixels like this, not at their centres. The very tensor given
    comes back when it has that size already.
    """
    if tuple(label.shape) == size:
        return label
    rows, columns = (
        torch.arange(new, device=label.device) * old // new
        for old, new in zip(label.shape, size, strict=True)
    )
    return label[rows[:, None], columns]


def _along_rows(lines: Tensor, width: int) -> Tensor:
    """``(n, W, C)`` uint8 to ``(n, width, C)`` int32, in units of 1/2048 grey level."""
    left, right, left_weight, right_weight = _taps(lines.shape[1], width)
    # Beyond the first and last pixel centre OpenCV drops the outer weight along rows only; along columns
    # both taps fall on the border row and the weights stay, which the truncations make visible.
    same = left == right
    left_weight = torch.where(same, _WEIGHT_ONE, left_weight)
    right_weight = torch.where(same, 0, right_weight)
    one, other = (
        lines.index_select(1, taps.to(lines.device)).int().mul_(weight.to(lines.device)[:, None])
        for taps, weight in ((left, left_weight), (right, right_weight))
    )
    return one.add_(other)


def _taps(source: int, target: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per target position the two source positions and their weights in units of 1/2048."""
    centre = ((torch.arange(target, dtype=torch.float64) + 0.5) * (source / target) - 0.5).float()
    first = centre.floor()
    second_weight = ((centre - first) * _WEIGHT_ONE).round().int()
    first_weight = ((1 - (centre - first)) * _WEIGHT_ONE).round().int()
    start = first.long()
    return start.clamp(0, source - 1), (start + 1).clamp(0, source - 1), first_weight, second_weight
