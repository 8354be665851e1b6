"""Means of a feature map under masks: of a finer grid, without a fine feature map, and of its own."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.ops.interpolate import bilinear_matrix

_TINY_AREA = 1e-8
"""Added to the number of positions of a region, as Mask2Former's followers do: a region without any pools to 0."""


def regions_on_grid(masks: Tensor, grid: Sequence[int]) -> Tensor:
    """``(B, N, H, W)`` mask logits as ``(B, N, h, w)`` bool on another grid: resized bilinearly, then above 0.

    Nothing is learned through the threshold, so the result carries no gradient.
    """
    masks = masks.detach()
    size = (grid[0], grid[1])
    if masks.shape[-2:] != size:
        masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    return masks > 0


def mean_in_regions(features: Tensor, regions: Tensor) -> Tensor:
    """Mean of ``(B, C, h, w)`` over each of ``(B, N, h, w)`` bool regions: ``(B, N, C)``; 0 for one without a position."""
    inside = (
        regions.float()
    )  # in half precision the tiny area would be nothing, and an empty region no number
    weights = inside / (inside.sum(dim=(-2, -1), keepdim=True) + _TINY_AREA)
    return torch.einsum("bchw,bnhw->bnc", features, weights.to(features.dtype))


def resize_masks(masks: Tensor, side: int) -> Tensor:
    """Bring ``(N, H, W)`` bool masks to ``(N, side, side)`` by nearest neighbour (torch's ``nearest``)."""
    if masks.shape[-2:] == (side, side):
        return masks
    return _nearest(masks, (side, side))


def masks_on_grid(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """``(N, H, W)`` bool masks on another grid ``(N, h, w)`` by nearest neighbour (torch's ``nearest``).

    One that nearest neighbour would lose, having no pixel where it looks, keeps every position that it touches.
    """
    small = _nearest(masks, size)
    lost = masks.flatten(1).any(dim=1) & ~small.flatten(1).any(dim=1)
    if lost.any():
        small[lost] = F.adaptive_max_pool2d(masks[lost].float(), size) > 0
    return small


def pool_by_masks(features: Tensor, masks: Tensor, image_of_mask: Tensor) -> Tensor:
    """Mean feature under each mask, the features being upsampled bilinearly to the masks' size.

    Upsampling is linear, ``up(f) = R f Cᵀ`` in each channel, so the sum over the pixels of a mask m is
    ``<m, R f Cᵀ> = <Rᵀ m C, f>``: the masks come down to the features' grid by the transposed interpolation, and
    one matrix product pools all channels. At 512 channels, 256×256 masks and a 20×20 grid that is 0.4 % of the
    memory of an upsampled map.

    Args:
        features: ``(B, D, h, w)``.
        masks: ``(N, H, W)`` bool; one without a pixel gives 0.
        image_of_mask: ``(N,)`` which of the B maps each mask lies on.

    Returns:
        ``(N, D)`` float32.
    """
    rows, columns = (
        bilinear_matrix(source, target, device=features.device)
        for source, target in zip(features.shape[-2:], masks.shape[-2:], strict=True)
    )
    pooled = features.new_zeros(len(masks), features.shape[1], dtype=torch.float32)
    for image, feature_map in enumerate(features.float().flatten(2)):  # (D, h*w)
        own = (image_of_mask == image).nonzero().flatten()
        weights = rows.T @ (masks[own].float() @ columns)  # (n, h, w)
        pooled[own] = weights.flatten(1) @ feature_map.T
    area = masks.flatten(1).sum(dim=1, keepdim=True).clamp(min=1)
    return pooled / area


def _nearest(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(masks[:, None].to(torch.uint8), size=size, mode="nearest")[:, 0].bool()
