"""Tokens on a patch grid: token lists to feature maps and back, and position embeddings at other sizes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.types import PositionMode

_SCALE_OFFSET = 0.1


def tokens_to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Arrange ``(B, h*w, D)`` row-major patch tokens as ``(B, D, h, w)``."""
    height, width = grid
    return tokens.transpose(1, 2).unflatten(2, (height, width))  # (B, D, N) -> (B, D, h, w)


def map_to_tokens(feature_map: Tensor) -> Tensor:
    """Flatten ``(B, D, h, w)`` to row-major ``(B, h*w, D)`` tokens."""
    return feature_map.flatten(2).transpose(1, 2)


def pad_to_windows(feature_map: Tensor, side: int) -> Tensor:
    """Zeros below and right of ``(B, D, h, w)`` up to whole windows of ``side`` patches."""
    height, width = feature_map.shape[-2:]
    # Rounded up without negative numbers, which ONNX divides towards zero.
    rows, columns = (height + side - 1) // side * side, (width + side - 1) // side * side
    if not torch.compiler.is_compiling():
        return F.pad(feature_map, (0, columns - width, 0, rows - height))
    # A program traced for any grid must not ask whether there is anything to pad: the border, repeated, times zero.
    down, across = (torch.arange(size, device=feature_map.device) for size in (rows, columns))
    inside = (down < height)[:, None] & (across < width)
    repeated = feature_map.index_select(2, down.clamp(max=height - 1))
    return repeated.index_select(3, across.clamp(max=width - 1)) * inside


def resize_position_embedding(
    embedding: Tensor, grid: tuple[int, int], mode: PositionMode, *, prefix: int = 1
) -> Tensor:
    """Bring a square position embedding to a ``(h, w)`` grid; rows before the patches (the class token) are untouched.

    Args:
        embedding: ``(prefix + n*n, D)``.
        grid: Target height and width in patches.
        mode: See :data:`PositionMode`.
        prefix: Rows that belong to no patch: 1 for a class token, 0 without one.

    Returns:
        ``(prefix + h*w, D)``; the very tensor given when the grid is the native one, so that a tower at its native
        size equals the stock model bit for bit.

    Raises:
        ValueError: The embedding does not belong to a square grid.
    """
    native = math.isqrt(len(embedding) - prefix)
    if native * native != len(embedding) - prefix:
        raise ValueError(f"expected {prefix} + n*n position rows, got {len(embedding)}")
    # A program traced for any grid has no such branch; resized to their own grid, the rows stay as they are.
    if not torch.compiler.is_compiling() and grid == (native, native):
        return embedding
    patches = tokens_to_map(embedding[None, prefix:].float(), (native, native))  # (1, D, n, n)
    if mode == "bicubic_offset":
        scale = ((grid[0] + _SCALE_OFFSET) / native, (grid[1] + _SCALE_OFFSET) / native)
        resized = F.interpolate(patches, scale_factor=scale, mode="bicubic", align_corners=False)
    else:
        resized = F.interpolate(
            patches,
            size=grid,
            mode=mode.split("_")[0],
            align_corners=False,
            antialias=mode.endswith("antialias"),
        )
    return torch.cat([embedding[:prefix], map_to_tokens(resized)[0].to(embedding.dtype)])
