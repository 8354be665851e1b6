"""Gaussian weights over neighbouring blocks (Cascade-CLIP) and neighbouring pixels."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

NeighborhoodForm = Literal["release", "paper"]

_TILE = 64
"""Pixels smoothed by one matrix: short enough that few of its products are by zero, long enough for a fast product."""


def neighborhood_weights(blocks: int, *, sigma: float = 1.0, form: NeighborhoodForm = "release") -> Tensor:
    """Initial weight of each block of a stage, shallow to deep.

    Cascade-CLIP eq. 4 gives ``exp(-(d - l + 1)^2 / (2 sigma^2))`` for l = 1..d, so that even the deepest block is
    damped (0.607 at sigma 1). The released code uses the distance to the deepest block, ``d - l``, which gives
    that block weight 1; this is the default. Neither form is normalised to sum to one.

    Args:
        blocks: d, how many blocks the stage has.
        sigma: Width in blocks, above 0.
        form: ``release`` (distance 0 for the deepest block) or ``paper`` (distance 1).

    Returns:
        ``(d,)`` float32.
    """
    if blocks < 1 or sigma <= 0:
        raise ValueError(f"expected at least one block and sigma above 0, got {blocks} and {sigma}")
    nearest = 1 if form == "paper" else 0
    distance = torch.arange(blocks - 1, -1, -1, dtype=torch.float32) + nearest
    return torch.exp(-0.5 * (distance / sigma) ** 2)


def gaussian_window(size: int, sigma: float) -> Tensor:
    """Weights ``exp(-x^2 / (2 sigma^2))`` of ``size`` pixels around the middle one, summing to 1: ``(size,)`` float32."""
    distance = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    weights = torch.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.sum()


def gaussian_smoothing(maps: Tensor, window: Tensor) -> Tensor:
    """Smooth maps with the same weights along both axes; beyond the border are zeros.

    Args:
        maps: ``(..., H, W)``.
        window: ``(n,)`` weights, n odd.

    Returns:
        ``(..., H, W)``.
    """
    return _smooth_columns(_smooth_columns(maps, window).mT, window).mT


def _smooth_columns(maps: Tensor, window: Tensor) -> Tensor:
    """Smooth along the last axis, tile by tile: a banded ``(tile + n - 1, tile)`` matrix from the right."""
    size, reach = maps.shape[-1], len(window) // 2
    tile = min(_TILE, size)
    tiles = -(-size // tile)
    padded = F.pad(maps, (reach, reach + tiles * tile - size))
    offset = torch.arange(tile + 2 * reach, device=maps.device)[:, None] - torch.arange(
        tile, device=maps.device
    )
    near = (offset >= 0) & (offset < len(window))
    band = torch.where(near, window.to(maps.dtype)[offset.clamp(0, len(window) - 1)], 0.0)
    strips = padded if tiles == 1 else padded.unfold(-1, tile + 2 * reach, tile)  # overlapping
    # One large product: of overlapping strips torch would make one tiny product per row.
    smoothed = strips.reshape(-1, tile + 2 * reach) @ band
    return smoothed.reshape(*maps.shape[:-1], tiles * tile)[..., :size]
