"""Another model's attention, cut to pairs that its values hold for alike, spreads a feature map (Trident, section 3.3)."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_HIGHEST = 0.9
"""No pair more alike than this is ever shut out; every position is with itself, so that no row becomes empty."""

_IN_PLACE_OF_NEGATIVE = 0.6


def likeness_thresholds(values: Tensor, *, factor: float, keep_negative: bool = True) -> Tensor:
    """How alike a position must be to each query to be attended to, the same for all heads.

    ``θ_i = factor * mean over heads m and keys j of cos(u_mi, u_mj)``, at most 0.9.

    Args:
        values: ``(M, N, d)`` of each head.
        factor: 1.2 for most data sets of the release, 3 for Cityscapes, 0 ("positive cosine") for VOC without background.
        keep_negative: Whether a negative threshold stays; otherwise 0.6 takes its place.

    Returns:
        ``(N,)``.
    """
    unit = F.normalize(values, dim=-1)
    total = unit.sum(dim=1)  # the sum over keys of products is the product with the sum
    thresholds = factor * torch.einsum("mnd,md->n", unit, total) / (values.shape[0] * values.shape[1])
    if not keep_negative:
        thresholds = torch.where(thresholds < 0, _IN_PLACE_OF_NEGATIVE, thresholds)
    return thresholds.clamp(max=_HIGHEST)


def guided_weights(
    attention: Iterable[Tensor], values: Tensor, *, factor: float = 1.2, keep_negative: bool = True
) -> Tensor:
    """Weights by which positions take part in each other's mean; rows sum to 1.

    In each head the attention stays where the cosine of the two positions' values exceeds the query's threshold; the rest
    is the mean over heads, each row divided by its sum.

    Args:
        attention: Of each of M heads, ``(N, N)`` after its soft-max; rows may sum to less than 1. One head is held at a time.
        values: ``(M, N, d)`` that the attention belongs to.
        factor: As in :func:`likeness_thresholds`.
        keep_negative: As there.

    Returns:
        ``(N, N)``.
    """
    values = values.float()
    thresholds = likeness_thresholds(values, factor=factor, keep_negative=keep_negative)[:, None]
    weights = torch.zeros(values.shape[1], values.shape[1], device=values.device)
    for head, unit in zip(attention, F.normalize(values, dim=-1), strict=True):
        weights += torch.where(unit @ unit.T > thresholds, head.float(), 0.0)
    return weights / weights.sum(dim=-1, keepdim=True)


def spread(features: Tensor, weights: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Bring a map to the weights' grid and take its weighted means there.

    Args:
        features: ``(D, h, w)``.
        weights: ``(N, N)`` from :func:`guided_weights`; several: of pieces of like width side by side, between which nothing
            is spread. The map is cut first and each piece brought to its own grid.
        grid: Height and width of one piece, N together.

    Returns:
        ``(D, H', W')`` with ``H' = grid[0]`` and ``W' = grid[1]`` times the pieces.
    """
    edges = [number * features.shape[2] // len(weights) for number in range(len(weights) + 1)]
    pieces = []
    for left, right, of_piece in zip(edges, edges[1:], weights, strict=False):
        piece = features[None, :, :, left:right].float()
        resized = F.interpolate(piece, size=grid, mode="bilinear", align_corners=False)[0]
        pieces.append((resized.flatten(1) @ of_piece.T).unflatten(1, grid))
    return torch.cat(pieces, dim=2)
