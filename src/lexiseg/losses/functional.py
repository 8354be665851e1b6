"""Focal and dice loss of masks as the papers write them: direct, readable, and the reference for the fused form."""

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, *, alpha: float = FOCAL_ALPHA, gamma: float = FOCAL_GAMMA
) -> Tensor:
    """Focal loss (Lin et al., 2017), mean over pixels, summed over masks.

    ``FL = -a_t (1 - p_t)^gamma log p_t`` with ``p_t = p`` and ``a_t = alpha`` where the target is 1, ``1 - p`` and
    ``1 - alpha`` elsewhere, p the sigmoid.

    Args:
        logits: ``(M, P)`` M masks of P pixels.
        targets: ``(M, P)`` of 0 and 1.
        alpha: Weight of positive pixels.
        gamma: Focusing exponent.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = torch.sigmoid(logits)
    p_t = probability * targets + (1 - probability) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    return (alpha_t * (1 - p_t) ** gamma * cross_entropy).mean(1).sum()


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice loss (Milletari et al., 2016), summed over masks: ``1 - (2 sum(p t) + 1) / (sum p + sum t + 1)``.

    Args:
        logits: ``(M, P)`` M masks of P pixels.
        targets: ``(M, P)`` of 0 and 1.
    """
    probability = torch.sigmoid(logits)
    intersection = 2 * (probability * targets).sum(1)
    return (1 - (intersection + 1) / (probability.sum(1) + targets.sum(1) + 1)).sum()


def direct_mask_loss(logits: Tensor, labels: Tensor, num_masks: float) -> tuple[Tensor, Tensor]:
    """Focal and dice of dense predictions under autograd, at full resolution for every class at once.

    The plain formulation that :func:`lexiseg.losses.fused.fused_mask_loss` replaces; tests and benchmarks compare
    with it. Labels outside ``0..K-1`` are negatives for every class, as in the released code.

    Args:
        logits: ``(B, K, h, w)``.
        labels: ``(B, H, W)`` int64.
        num_masks: What both sums are divided by.

    Returns:
        Focal and dice loss, unweighted.
    """
    classes = logits.shape[1]
    upsampled = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    inside = (labels >= 0) & (labels < classes)
    one_hot = F.one_hot(labels.where(inside, classes), classes + 1)[..., :classes].movedim(-1, 1).float()
    focal = sigmoid_focal_loss(upsampled.flatten(0, 1).flatten(1), one_hot.flatten(0, 1).flatten(1))
    present = one_hot.flatten(2).any(2)
    dice = dice_loss(upsampled[present].flatten(1), one_hot[present].flatten(1))
    return focal / num_masks, dice / num_masks
