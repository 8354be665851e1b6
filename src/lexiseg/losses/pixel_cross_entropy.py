"""Cross-entropy of every pixel over all classes: LSeg's loss."""

import torch.nn.functional as F
from torch import Tensor

from lexiseg.label_codes import label_codes


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over labelled pixels of the cross-entropy of their class; zero where no pixel is labelled.

    Args:
        logits: ``(B, K, h, w)``; brought to the labels' size bilinearly where they have another.
        labels: ``(B, H, W)`` int64 class indices below K, or ``label_codes(K).ignore``, which takes no part.
    """
    logits = logits.float()
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    ignore = label_codes(logits.shape[1]).ignore
    count = (labels != ignore).sum().clamp(min=1)
    return F.cross_entropy(logits, labels, ignore_index=ignore, reduction="sum") / count
