"""Positions on a grid as sines and cosines."""

import math

import torch
from torch import Tensor

_TEMPERATURE = 10_000.0
"""Of the longest wave, in units of the shortest."""


def sine_positions(map_: Tensor) -> Tensor:
    """DETR's position embedding of a map's grid, each axis scaled to one turn (Carion et al., 2020, sec. A.4).

    The first half of the channels tells the row, the second the column; of each, even ones are sines and odd ones cosines
    of the same angles ``2 pi (i + 1) / n / 10000^(2k/d)``, d the channels of an axis.

    Args:
        map_: ``(B, C, h, w)`` whose size, type and device count; C a multiple of 4.

    Returns:
        ``(1, C, h, w)``.
    """
    channels, height, width = map_.shape[1:]
    rows = _waves(height, channels // 2, map_)[:, None].expand(-1, width, -1)
    columns = _waves(width, channels // 2, map_)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).permute(2, 0, 1)[None].to(map_.dtype)


def _waves(length: int, channels: int, like: Tensor) -> Tensor:
    """``(length, channels)`` float32."""
    steps = torch.arange(length, device=like.device, dtype=torch.float32) + 1
    powers = torch.arange(channels // 2, device=like.device, dtype=torch.float32) * 2 / channels
    angles = (2 * math.pi * steps / length)[:, None] / _TEMPERATURE**powers
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
