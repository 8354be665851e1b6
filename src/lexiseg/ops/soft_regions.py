"""Regions whose pixels belong to them by degrees."""

import torch
from torch import Tensor


def soft_region_means(masks: Tensor, features: Tensor) -> Tensor:
    """Mean feature of each region, every pixel weighing as much as it belongs to it (OpenSeg, sec. 3.2).

    ``z_i = sum_p s_i(p) f(p) / sum_p s_i(p)``; no threshold.

    Args:
        masks: ``(B, N, h, w)`` in [0, 1].
        features: ``(B, D, h, w)``.

    Returns:
        ``(B, N, D)``; 0 for a region without any pixel.
    """
    sums = torch.einsum("bnhw,bdhw->bnd", masks, features)
    area = masks.flatten(2).sum(-1, keepdim=True)
    return sums / area.clamp(min=torch.finfo(masks.dtype).tiny)


def confident_masks(masks: Tensor, *, threshold: float = 0.5, confidence: float = 0.0) -> Tensor:
    """Regions of a teacher as label masks for a student that sees no labels (OpenSeg, sec. 3.4).

    The paper gives neither number: both are ours.

    Args:
        masks: ``(N, h, w)`` in [0, 1].
        threshold: A pixel belongs to a region above it.
        confidence: Regions are left out whose mean over their own pixels is not above it, and those without a pixel.

    Returns:
        ``(M, h, w)`` bool, in the order of the regions; M may be 0.
    """
    inside = masks > threshold
    area = inside.flatten(1).sum(-1)
    mean = (masks * inside).flatten(1).sum(-1) / area.clamp(min=1)
    return inside[(area > 0) & (mean > confidence)]
