"""What classes look like in a few photographs: means of features under their masks, seen from their common middle."""

import torch
import torch.nn.functional as F
from torch import Tensor


def centred_prototypes(sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Directions from the middle of all classes towards each.

    Features of CLIP share a large common part, so that the mean of any class is close to that of any other; what tells
    them apart is the way from their middle, and a feature is asked how far it lies along it: ``(f - m) · q``.

    Args:
        sums: ``(K, D)`` sum over photographs of the mean unit feature under a class's mask.
        counts: ``(K,)`` in how many photographs each class was; 0 for one that was not shown.

    Returns:
        ``q (K, D)`` of unit length, zeros for a class that was not shown; and ``m · q (K,)``, to be taken from the products.
    """
    shown = counts > 0
    means = sums / counts.clamp(min=1)[:, None]
    middle = means[shown].mean(0) if bool(shown.any()) else torch.zeros_like(sums[0])
    directions = F.normalize(means - middle, dim=-1) * shown[:, None]
    return directions, directions @ middle


def spread(scores: Tensor) -> float:
    """How far the classes' scores ``(K, n)`` lie apart at a pixel, in the mean over pixels: their standard deviation."""
    return float(scores.float().std(dim=0, correction=0).mean()) if scores.numel() else 0.0
