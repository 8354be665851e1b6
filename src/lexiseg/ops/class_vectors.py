"""From rows per word to one per class, in the two ways of the field, and the scaled cosines with such rows."""

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST_SCALE = 100.0
"""CLIP never lets the scale of its cosines grow above this."""


def mean_vectors(text: Tensor, class_ids: Tensor, classes: int | None = None) -> Tensor:
    """Unit ``(K, E)`` mean over the words of each class.

    Args:
        text: ``(M, E)`` unit rows.
        class_ids: ``(M,)`` class of each row, ascending from 0.
        classes: K, where it is known beforehand: a traced program cannot look into ``class_ids``.
    """
    count = int(class_ids[-1]) + 1 if classes is None else classes
    if count == text.shape[0]:
        return text
    sums = text.new_zeros(count, text.shape[1]).index_add_(0, class_ids, text)
    return F.normalize(sums, dim=-1)


def best_word(scores: Tensor, class_ids: Tensor, classes: int | None = None) -> Tensor:
    """``(…, M)`` scores of words to ``(…, K)`` of classes: the highest of each class's words.

    Args:
        scores: Of each word.
        class_ids: ``(M,)`` class of each word, ascending from 0.
        classes: K, where it is known beforehand: a traced program cannot look into ``class_ids``.
    """
    count = int(class_ids[-1]) + 1 if classes is None else classes
    if count == scores.shape[-1]:
        return scores
    start = scores.new_full((*scores.shape[:-1], count), -torch.inf)
    return start.scatter_reduce(-1, class_ids.expand(scores.shape), scores, reduce="amax")


def scaled_cosines(vectors: Tensor, text: Tensor, log_scale: Tensor) -> Tensor:
    """``min(exp(s), 100) · cos(v, t)``, as CLIP scores an image against words.

    Args:
        vectors: ``(…, E)``, not normalised.
        text: ``(M, E)`` unit rows.
        log_scale: s, without axes.

    Returns:
        ``(…, M)``.
    """
    scale = log_scale.exp().clamp(max=_LARGEST_SCALE)
    return scale * (F.normalize(vectors, dim=-1) @ text.T)
