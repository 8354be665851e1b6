"""Patches whose features stand apart from all others, and their repair from their neighbours (SC-CLIP)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.ops.grid import map_to_tokens, tokens_to_map

_SMALLEST_DISTANCE = 1e-12
"""Below this a squared distance is rounding; equal patches would otherwise have infinite density."""


def local_outlier_factor(tokens: Tensor, *, neighbors: int = 30) -> Tensor:
    """How much sparser a token lies than its nearest neighbours, 1 for a token like them.

    SC-CLIP's variant of LOF on squared distances: its reachability ``max(d(p, o), kdist(p))`` takes the
    token's own k-distance and so is always ``kdist(p)``; density is ``1 / kdist``. The textbook takes the
    neighbour's k-distance.

    Args:
        tokens: ``(B, N, D)``.
        neighbors: k, without the token itself; at most N - 1 are used, where the release needs N > k.

    Returns:
        ``(B, N)`` mean density of the k neighbours over the token's own density, in float32.
    """
    count = min(neighbors, tokens.shape[1] - 1)
    if count < 1:
        return torch.ones(tokens.shape[:2], device=tokens.device)
    points = tokens.float()
    points = points - points.mean(dim=1, keepdim=True)  # the expansion below cancels less near the origin
    lengths = points.square().sum(dim=-1)
    squared = lengths[:, :, None] + lengths[:, None] - 2 * points @ points.transpose(1, 2)
    squared.diagonal(dim1=1, dim2=2).fill_(-1.0)  # the token itself always comes first
    nearest = squared.topk(count + 1, dim=-1, largest=False)
    k_distance = nearest.values[:, :, -1].clamp_min(_SMALLEST_DISTANCE)  # (B, N)
    neighbor_ids = nearest.indices[:, :, 1:].flatten(1)
    density = (1 / k_distance).gather(1, neighbor_ids).unflatten(1, (-1, count))
    return density.mean(dim=-1) * k_distance


def find_outliers(tokens: Tensor, *, share: float = 0.05, neighbors: int = 30) -> Tensor:
    """Tokens whose outlier factor exceeds the ``1 - share`` quantile of their image.

    Returns:
        ``(B, N)`` bool; 10 of 196 for the defaults.
    """
    scores = local_outlier_factor(tokens, neighbors=neighbors)
    return scores > scores.quantile(1 - share, dim=1, keepdim=True)


def repair_outliers(tokens: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    """Replace outliers by the mean of those of their 8 grid neighbours that are none; others stay.

    Args:
        tokens: ``(B, P, D)`` patches, row-major.
        outliers: ``(B, P)`` bool.
        grid: Patch rows and columns.

    Returns:
        ``(B, P, D)``; an outlier among outliers keeps its value.
    """
    good = tokens_to_map((~outliers)[..., None].to(tokens.dtype), grid)  # (B, 1, h, w)
    total = _sum_around(tokens_to_map(tokens, grid) * good)
    count = _sum_around(good)
    mean = map_to_tokens(total / count.clamp_min(1))
    replaced = outliers & (count.flatten(1) > 0)
    return torch.where(replaced[..., None], mean, tokens)


def _sum_around(feature_map: Tensor) -> Tensor:
    """Sum over the 3×3 neighbourhood, zero outside the grid; an outlier's own place holds 0."""
    return F.avg_pool2d(feature_map, kernel_size=3, stride=1, padding=1, divisor_override=1)
