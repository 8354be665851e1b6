"""Structural similarity of masks as a loss (Wang et al., 2004; SPT-SEG).

The window is a product of banded matrices from both sides, in tiles: a convolution of one channel has no fast kernel on a
processor. A mask holds 0 and 1, so its square is itself; and to a class that an image does not show the similarity is
``C1 C2 / ((m1^2 + C1)(s1 + C2))``, two smoothed maps instead of five. Most classes of most images are such.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lexiseg.label_codes import label_codes
from lexiseg.losses.fused import IgnoredPixels
from lexiseg.ops.gaussian import gaussian_smoothing, gaussian_window
from lexiseg.types import chunks

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2

_CHUNK_ELEMENTS = 1 << 22
"""Upsampled logits looked at together: the dozen buffers of one chunk, not of all classes, are alive at a time."""


def mask_similarity(maps: Tensor, masks: Tensor, window: Tensor) -> Tensor:
    """SSIM of every pixel: ``(2 m1 m2 + C1)(2 s12 + C2) / ((m1^2 + m2^2 + C1)(s1 + s2 + C2))``.

    Means m, variances s1, s2 and covariance s12 are taken in a window around the pixel; beyond the border are zeros.

    Args:
        maps: ``(M, H, W)``.
        masks: ``(M, H, W)`` of 0 and 1.
        window: ``(n,)`` weights of one axis that sum to 1, n odd.

    Returns:
        ``(M, H, W)``, at most 1.
    """
    smoothed = gaussian_smoothing(torch.stack([maps, masks, maps * maps, maps * masks]), window)
    m1, m2, square, product = smoothed
    s1, s2, s12 = square - m1 * m1, m2 - m2 * m2, product - m1 * m2
    return (2 * m1 * m2 + _C1) * (2 * s12 + _C2) / ((m1 * m1 + m2 * m2 + _C1) * (s1 + s2 + _C2))


def empty_mask_similarity(maps: Tensor, window: Tensor) -> Tensor:
    """:func:`mask_similarity` to masks without a pixel: ``(M, H, W)`` to ``(M, H, W)``."""
    mean, square = gaussian_smoothing(torch.stack([maps, maps * maps]), window)
    mean_square = mean * mean
    return _C1 * _C2 / ((mean_square + _C1) * (square - mean_square + _C2))


def mask_ssim_loss(logits: Tensor, labels: Tensor, *, ignored: IgnoredPixels = "negative") -> Tensor:
    """``1 - SSIM`` of upsampled raw logits against masks of 0 and 1, mean over pixels, classes and images.

    Logits and not probabilities, as SPT-SEG's release has it; window 11, deviation 1.5. What is more
    than one chunk is computed again in the backward pass, chunk by chunk, so that full-size tensors per class never pile up.

    Args:
        logits: ``(B, K, h, w)``.
        labels: ``(B, H, W)`` int64 class indices below K, or ``label_codes(K).ignore``.
        ignored: What a pixel without a class is: of no class, or no centre of a window (it still lies within its neighbours').
    """
    height, width = labels.shape[-2:]
    window = gaussian_window(_WINDOW, _SIGMA).to(logits.device)
    ignore = label_codes(logits.shape[1]).ignore
    counted = torch.ones_like(labels, dtype=torch.bool) if ignored == "negative" else labels != ignore
    step = max(_CHUNK_ELEMENTS // (height * width), 1)
    total = logits.new_zeros((), dtype=torch.float32)
    every = torch.arange(logits.shape[1], device=labels.device)
    present = torch.stack([torch.isin(every, label) for label in labels])  # (B, K)
    for pairs, shown in ((present.nonzero(), True), ((~present).nonzero(), False)):
        similar = partial(_summed_similarity, labels, counted, window, shown)
        for part in chunks(len(pairs), step):
            images, classes = pairs[part].T
            inputs = images, classes, logits[images, classes]
            # The buffers of a single chunk are all alive in the backward pass anyway.
            alone = len(pairs) <= step
            total = total + (similar(*inputs) if alone else checkpoint(similar, *inputs, use_reentrant=False))
    return 1 - total / (counted.sum().clamp(min=1) * logits.shape[1])


def _summed_similarity(
    labels: Tensor,
    counted: Tensor,
    window: Tensor,
    shown: bool,
    images: Tensor,
    classes: Tensor,
    logits: Tensor,
) -> Tensor:
    """Summed over pairs of an image and a class, whose maps are ``logits (M, h, w)``."""
    with torch.autocast(logits.device.type, enabled=False):  # a variance of differences needs float32
        upsampled = F.interpolate(
            logits[None].float(), size=labels.shape[1:], mode="bilinear", align_corners=False
        )[0]
        if shown:
            masks = (labels[images] == classes[:, None, None]).float()
            similar = mask_similarity(upsampled, masks, window)
        else:
            similar = empty_mask_similarity(upsampled, window)
        return (similar * counted[images]).sum()
