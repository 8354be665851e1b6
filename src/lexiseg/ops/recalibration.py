"""Text-guided recalibration (TG-CLIP eq. 9 to 13): patches are pulled towards the words they resemble."""

import torch
import torch.nn.functional as F
from torch import Tensor

_WORDS_AT_ONCE = 512
"""Words whose similarities to all patches exist at the same time in the feature form."""

_SHORTEST = 1e-12
"""Least squared length of a recalibrated feature, for strengths at which a patch and its words cancel."""


def recalibrate_logits(
    logits: Tensor, gram: Tensor, *, strength: float | Tensor, temperature: float
) -> Tensor:
    """Recalibrated cosines from cosines alone; cheap where words are few.

    With ``A = softmax(L / τ)`` over the words and ``G`` the cosines between words, the feature
    ``normalize(v + λ Σ_c A_c z_c)`` has the cosines ``(L + λ A G) / sqrt(1 + 2 λ <A, L> + λ² A G Aᵀ)``.

    Args:
        logits: ``(B, K, N)`` cosines of patches and words.
        gram: ``(K, K)`` cosines between the words.
        strength: λ, or ``(B, 1, N)`` a λ per patch.
        temperature: τ.

    Returns:
        ``(B, K, N)`` cosines.
    """
    attention = (logits / temperature).softmax(dim=1)
    pull = gram @ attention
    along = (attention * logits).sum(dim=1, keepdim=True)
    squared = 1 + 2 * strength * along + strength**2 * (attention * pull).sum(dim=1, keepdim=True)
    return (logits + strength * pull) * squared.clamp_min(_SHORTEST).rsqrt()


def recalibrate_features(
    features: Tensor, text: Tensor, *, strength: float | Tensor, temperature: float
) -> Tensor:
    """Recalibrated unit features; memory does not depend on the number of words.

    The softmax over the words runs through them in chunks, with a running maximum and sum.

    Args:
        features: ``(B, D, N)`` unit features.
        text: ``(K, D)`` unit words.
        strength: λ, or ``(B, 1, N)`` a λ per patch.
        temperature: τ.

    Returns:
        ``(B, D, N)`` of unit length.
    """
    highest = torch.full_like(features[:, :1], -torch.inf)
    total = torch.zeros_like(highest)
    pull = torch.zeros_like(features)
    for words in text.split(_WORDS_AT_ONCE):
        scores = (words @ features) / temperature
        new_highest = torch.maximum(highest, scores.amax(dim=1, keepdim=True))
        fade = (highest - new_highest).exp()
        scores = scores.sub_(new_highest).exp_()
        total = total * fade + scores.sum(dim=1, keepdim=True)
        pull = pull * fade + words.T @ scores
        highest = new_highest
    return F.normalize(features + strength * (pull / total), dim=1)
