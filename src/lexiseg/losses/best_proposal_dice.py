"""OpenSeg's loss of masks: every label takes the proposal that fits it best, and no proposal is taught to be nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor


def dice_coefficients(masks: Tensor, labels: Tensor) -> Tensor:
    """``2 sum(s l) / (sum s + sum l)`` of every mask and label.

    Args:
        masks: ``(N, h, w)`` in [0, 1].
        labels: ``(M, h, w)`` in [0, 1].

    Returns:
        ``(N, M)``, without any smoothing; 0 where both are empty.
    """
    masks, labels = masks.flatten(1), labels.flatten(1).to(masks.dtype)
    both = masks.sum(1)[:, None] + labels.sum(1)
    return 2 * (masks @ labels.T) / both.clamp(min=torch.finfo(masks.dtype).tiny)


def best_proposals(masks: Tensor, labels: Tensor) -> Tensor:
    """Which of N masks each of M labels takes, ``(M,)`` int64; several labels may take the same one."""
    return dice_coefficients(masks, labels).argmax(0)


def best_proposal_dice(masks: Tensor, labels: Sequence[Tensor]) -> Tensor:
    """``L_S = mean over labels of 1 - max over proposals of dice`` (OpenSeg, eq. 1), mean over the images with labels.

    The gradient reaches the best proposal of each label only.

    Args:
        masks: ``(B, N, h, w)`` in [0, 1].
        labels: Per image ``(M, h, w)`` in [0, 1], of no class; M may be 0.

    Returns:
        A scalar; 0 without any label.
    """
    losses = [
        (1 - dice_coefficients(own, label).amax(0)).mean()
        for own, label in zip(masks, labels, strict=True)
        if len(label)
    ]
    return torch.stack(losses).mean() if losses else masks.sum() * 0
