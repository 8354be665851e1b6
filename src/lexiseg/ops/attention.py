"""Attention readings of a frozen block: which tokens mix into which, without any new weight.

Letters: B images, M heads, N tokens (class token first where there is one), P patches, d channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """``softmax(query keyᵀ scale + bias) value`` without keeping the attention map.

    Args:
        query: ``(B, M, N1, d)``.
        key: ``(B, M, N2, d)``.
        value: ``(B, M, N2, d)``.
        bias: Added to the scores before the softmax; broadcasts to ``(B, M, N1, N2)``. Every row must keep a
            finite entry.
        scale: ``1 / sqrt(d)`` if not given.

    Returns:
        ``(B, M, N1, d)``.
    """
    if bias is not None:
        bias = bias.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)


def attention_map(
    query: Tensor, key: Tensor, *, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """``softmax(query keyᵀ scale + bias)`` itself, for methods that mix maps; arguments as in :func:`attend`.

    Returns:
        ``(B, M, N1, N2)``, rows sum to 1.
    """
    scores = attention_scores(query, key, scale=scale)
    return (scores if bias is None else scores + bias).softmax(dim=-1)


def attention_scores(query: Tensor, key: Tensor, *, scale: float | None = None) -> Tensor:
    """``query keyᵀ scale`` before any softmax, ``(B, M, N1, N2)``; ``scale`` defaults to ``1 / sqrt(d)``."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return (query * factor) @ key.transpose(-2, -1)


def patch_offsets(grid: tuple[int, int], *, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Row and column distance of every pair of patches on an ``(h, w)`` grid, each ``(P, P)`` int64."""
    height, width = grid
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    return (rows[:, None] - rows).abs(), (columns[:, None] - columns).abs()


def neighborhood_bias(
    grid: tuple[int, int], *, sigma: float, device: torch.device | None = None, prefix: int = 1
) -> Tensor:
    """Gaussian preference for near patches, added to attention scores (NACLIP eq. 5).

    ``exp(-(dr² + dc²) / (2 sigma²))`` between patches, 0 in the rows and columns of the tokens before them.

    Args:
        grid: Patch rows and columns.
        sigma: Width in patches, above 0.
        device: Where to build it.
        prefix: Class and register tokens before the patches.

    Returns:
        ``(prefix + P, prefix + P)`` in float32.

    Raises:
        ValueError: ``sigma`` is not above 0.
    """
    if sigma <= 0:
        raise ValueError(f"expected sigma above 0, got {sigma}")
    rows, columns = patch_offsets(grid, device=device)
    weights = torch.exp(-(rows**2 + columns**2).float() / (2 * sigma**2))
    return F.pad(weights, (prefix, 0, prefix, 0))


def window_mask(
    grid: tuple[int, int], *, side: int, device: torch.device | None = None, prefix: int = 1
) -> Tensor:
    """Which tokens a patch may see when attention is limited to a square window around it.

    Class and register tokens are outside every window: with ``side`` 1 a patch sees only itself, which is MaskCLIP.

    Args:
        grid: Patch rows and columns.
        side: Odd side of the window in patches.
        device: Where to build it.
        prefix: Class and register tokens before the patches.

    Returns:
        ``(P, prefix + P)`` bool, True where attention is allowed.

    Raises:
        ValueError: ``side`` is even or below 1.
    """
    if side < 1 or side % 2 == 0:
        raise ValueError(f"expected an odd window side of at least 1 patch, got {side}")
    rows, columns = patch_offsets(grid, device=device)
    near = (rows <= side // 2) & (columns <= side // 2)
    return F.pad(near, (prefix, 0), value=False)
