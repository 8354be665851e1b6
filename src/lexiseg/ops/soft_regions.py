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
