"""Words matched late, against whole regions instead of single pixels (LaVG, Kang and Cho, ECCV 2024, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

NO_REGION = -1
"""Stands where no mask holds a pixel."""


def first_region(masks: Tensor) -> Tensor:
    """``(B, H, W)`` int64: of the masks ``(B, M, H, W)`` bool that hold a pixel the first, or `NO_REGION`."""
    if masks.shape[1] == 0:
        return torch.full(masks[:, :0].sum(dim=1).shape, NO_REGION, device=masks.device)
    first = masks.to(torch.uint8).argmax(dim=1)  # of equal ones the first
    return first.masked_fill(~masks.any(dim=1), NO_REGION)


def match_late(logits: Tensor, region_logits: Tensor, owners: Tensor) -> Tensor:
    """Every pixel takes the logits of the region that owns it; one without any keeps its own.

    Args:
        logits: ``(B, K, h, w)`` on the patch grid.
        region_logits: ``(B, M, K)``.
        owners: ``(B, H, W)`` of :func:`first_region`.

    Returns:
        ``(B, K, H, W)``.
    """
    padded = F.pad(region_logits, (0, 0, 0, 1))  # `NO_REGION` reads the last row
    count = padded.shape[1]
    flat = owners.flatten(1) % count
    taken = padded.gather(1, flat[..., None].expand(-1, -1, padded.shape[2])).transpose(1, 2)
    taken = taken.unflatten(2, owners.shape[1:])
    left = owners == NO_REGION
    if not left.any():
        return taken
    own = F.interpolate(logits, size=owners.shape[1:], mode="bilinear", align_corners=False)
    return torch.where(left[:, None], own, taken)


def silence_foreground(logits: Tensor, background: Tensor, *, first: int) -> Tensor:
    """Words of the foreground score the least of all logits where the background is.

    Args:
        logits: ``(B, K, H, W)``.
        background: ``(B, H, W)`` bool.
        first: Words from here on name the foreground.

    Returns:
        ``(B, K, H, W)``; the least is that of an image, over all pixels and words.
    """
    least = logits.flatten(1).min(dim=1).values.view(-1, 1, 1, 1)
    silenced = torch.where(background[:, None], least, logits[:, first:])
    return torch.cat([logits[:, :first], silenced], dim=1)
