"""From what a SAM 3 answers to one word to how much of the word each pixel shows (Carion et al., 2025)."""

import torch
from torch import Tensor


def concept_map(masks: Tensor, queries: Tensor, presence: Tensor) -> Tensor:
    """``σ(presence) · max over queries of σ(query) · σ(mask)``: a query's score is its own times that the word is there at all.

    Args:
        masks: ``(W, N, h, w)`` logits of N queries in each of W pictures.
        queries: ``(W, N)`` logits, whether a query is of the word.
        presence: ``(W, 1)`` logits, whether the word is in the picture.

    Returns:
        ``(W, h, w)`` in [0, 1], float32.
    """
    scores = queries.float().sigmoid() * presence.float().sigmoid()
    best = masks.new_zeros(masks.shape[0], *masks.shape[2:], dtype=torch.float32)
    for index in range(masks.shape[1]):  # all at once would be a second stack of masks
        best = best.maximum(scores[:, index, None, None] * masks[:, index].float().sigmoid())
    return best


def stuff_map(semantic: Tensor, presence: Tensor) -> Tensor:
    """``σ(presence) · σ(semantic)``, what the head without queries says: ``(W, 1, h, w)`` logits to ``(W, h, w)`` in [0, 1]."""
    return semantic[:, 0].float().sigmoid() * presence.float().sigmoid()[:, :, None]
