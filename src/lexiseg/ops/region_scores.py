"""How the scores of two classifiers of a region become one, computed on logarithms.

Letters: N regions, K classes; any axes before them.
"""

import torch
from torch import Tensor


def geometric_mean(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """``p^(1 - w) * q^w``, not normalised (OVSeg; ZegFormer without a distinction of seen classes, w = 2/3).

    Args:
        first: ``(…, N, K)`` log-probabilities.
        second: Likewise.
        weight: w, of the second, in [0, 1].

    Returns:
        ``(…, N, K)`` scores.
    """
    return ((1 - weight) * first + weight * second).exp()


def fuse_with_seen_mean(segment: Tensor, image: Tensor, seen: Tensor, weight: float) -> Tensor:
    """ZegFormer's fusion: the classifier of crops decides among unseen classes, and about seen ones only all together.

    ``p^w * m^(1 - w)`` for a seen class, ``p^(1 - w) * q^w`` for an unseen one, with p of the segment's embedding, q of its
    crop, and m the mean of q over the seen classes. Differs from the paper, which prints the exponents of the seen ones the
    other way round: this is the released code.

    Args:
        segment: ``(…, N, K)`` log-probabilities p.
        image: Likewise, q.
        seen: ``(K,)`` bool; where no class is, all are treated as unseen.
        weight: w, 2/3 as released.

    Returns:
        ``(…, N, K)`` scores.
    """
    unseen_scores = geometric_mean(segment, image, weight)
    if not seen.any():
        return unseen_scores
    mean = image[..., seen].logsumexp(-1, keepdim=True) - seen.sum().log()
    return geometric_mean(segment, mean, 1 - weight).where(seen, unseen_scores)


def best_region_of_each_class(scores: Tensor) -> Tensor:
    """Which regions are the best of any class (OVSeg's demonstration: only those are drawn).

    Args:
        scores: ``(…, N, K)``.

    Returns:
        ``(…, N)`` bool.
    """
    best = scores.argmax(-2, keepdim=True)  # (…, 1, K)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-2, best, value=True).any(-1)


def append_thing_logit(logits: Tensor, things: Tensor) -> Tensor:
    """Class logits with one of "nothing", so that the soft-max over all is ``sigmoid(t) softmax(l)`` and ``1 - sigmoid(t)``.

    For a classifier that knows classes alone, beside something else that says whether a region is a thing at all: the logit
    of "nothing" is ``log sum exp(l) - t``.

    Args:
        logits: ``(…, N, K)`` l.
        things: ``(…, N)`` t.

    Returns:
        ``(…, N, K + 1)``.
    """
    nothing = logits.logsumexp(-1) - things
    return torch.cat([logits, nothing[..., None]], dim=-1)
