"""Similarity between patches as a way to spread features: weighted means and contrasted attention."""

import torch
import torch.nn.functional as F
from torch import Tensor

_EMPTY_ROW = 1e-6
"""Added to a row's sum before dividing, so that a patch without any partner becomes zero and not NaN."""


def cosine_affinity(tokens: Tensor) -> Tensor:
    """Cosines between all pairs of ``(B, N, D)`` tokens, ``(B, N, N)``."""
    unit = F.normalize(tokens, dim=-1)
    return unit @ unit.transpose(1, 2)


def aggregate(affinity: Tensor, tokens: Tensor, *, threshold: float | None = None) -> Tensor:
    """Weighted mean of tokens, row by row: ``(S / (S 1 + 1e-6)) Y`` (SC-CLIP's aggregation).

    Args:
        affinity: ``(B, N, N)``.
        tokens: ``(B, N, D)``.
        threshold: Entries below it count as 0.

    Returns:
        ``(B, N, D)``.
    """
    if threshold is not None:
        affinity = torch.where(affinity >= threshold, affinity, 0.0)
    return (affinity / (affinity.sum(dim=-1, keepdim=True) + _EMPTY_ROW)) @ tokens


def mean_affinity(tokens: Tensor) -> Tensor:
    """Mean over all of ``(B, N, D)`` tokens' cosines within each of the B sets, one number; no ``(N, N)`` is made for it."""
    total = F.normalize(tokens.float(), dim=-1).sum(dim=1)
    return total.square().sum() / (tokens.shape[0] * tokens.shape[1] ** 2)


def contrasted_scores(
    affinity: Tensor, *, sharpness: float, shift: float, mean: Tensor | None = None
) -> Tensor:
    """Attention scores from an affinity: ``γ (S - β mean S)``, with everything below 0 shut out.

    ProxyCLIP's adaptive normalisation and masking (its eq. 6 and 7); SC-CLIP uses it with ``β`` 1.

    Args:
        affinity: ``(B, N, N)`` cosines.
        sharpness: γ.
        shift: β.
        mean: Of S; None: over each image's whole map.

    Returns:
        ``(B, N, N)`` for a softmax. A row in which nothing is left, as in an image of one colour where the
        published codes divide by zero, becomes 0 everywhere: such a patch attends to all alike.
    """
    middle = affinity.mean(dim=(1, 2), keepdim=True) if mean is None else mean
    scores = sharpness * (affinity - shift * middle)
    rejected = scores < 0
    scores = scores.masked_fill(rejected, -torch.inf)
    return scores.masked_fill(rejected.all(dim=-1, keepdim=True), 0.0)
