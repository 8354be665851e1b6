"""Two classifiers' scores of one region as one, and what the release of FC-CLIP makes of them afterwards."""

import torch
from torch import Tensor

_FLOOR = 1e-8
"""Added by the release of FC-CLIP to every probability before it takes the logarithm."""


def geometric_ensemble(inside: Tensor, outside: Tensor, share: Tensor) -> Tensor:
    """Soft-max of ``(1 - a) log p_in + a log p_out``: a geometric mean, in log space so that nothing underflows.

    FC-CLIP (Yu et al., NeurIPS 2023), sec. 3.3.

    Args:
        inside: ``(…, K)`` class logits of the trained classifier.
        outside: ``(…, K)`` class logits of the frozen one; anything where ``share`` is 0.
        share: a in [0, 1], broadcasts to ``(…, K)``: 0 leaves the trained one alone.

    Returns:
        ``(…, K)``, sums to 1 over the classes.
    """
    trained, frozen = inside.log_softmax(-1), outside.log_softmax(-1)
    # 0 · nan is nan: what a frozen classifier says of a region it cannot see must not be read at all.
    frozen = torch.where(share > 0, frozen, 0.0)
    return ((1 - share) * trained + share * frozen).softmax(-1)


def append_nothing(scores: Tensor, nothing: Tensor) -> Tensor:
    """``(…, K)`` scores that sum to 1, and the score of "no object" ``(…)`` that takes its part of it: ``(…, K + 1)``."""
    return torch.cat([scores * (1 - nothing[..., None]), nothing[..., None]], dim=-1)


def renormalised(scores: Tensor) -> Tensor:
    """``softmax(log(p + 1e-8))`` of ``(…, K + 1)``: the release hands logarithms on and applies soft-max to them again."""
    floored = scores + _FLOOR
    return floored / floored.sum(dim=-1, keepdim=True)
