"""Regions that were given, beside those that a model proposes: as mask logits, and which proposal each overlaps most.

Letters: N given regions, P proposed ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CERTAIN = 100.0
"""Mask logit whose sigmoid is 1 in float32, and that of its negative 0."""


def certain_logits(masks: Tensor) -> Tensor:
    """Masks as mask logits, float32: bool ones become plus and minus :data:`CERTAIN`, numbers are logits already."""
    if masks.dtype != torch.bool:
        return masks.float()
    return torch.where(masks, CERTAIN, -CERTAIN)


def best_overlaps(given: Tensor, proposed: Tensor) -> Tensor:
    """The proposal that overlaps each given region most, by intersection over union.

    Args:
        given: ``(N, H, W)`` mask logits.
        proposed: ``(P, h, w)`` mask logits over the same picture, which are resized bilinearly to H x W.

    Returns:
        ``(N,)`` int64; the first of equals, which is 0 for a region that no proposal touches.
    """
    resized = F.interpolate(proposed[None], size=given.shape[-2:], mode="bilinear", align_corners=False)[0]
    ours, theirs = ((each > 0).flatten(1).float() for each in (given, resized))
    shared = ours @ theirs.T
    union = ours.sum(1)[:, None] + theirs.sum(1) - shared
    return (shared / union.clamp(min=1)).argmax(1)
