"""Structural similarity of masks as a loss (Wang et al., 2004; SPT-SEG)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lexiseg.constants import IGNORE_INDEX
from lexiseg.losses.fused import IgnoredPixels
from lexiseg.ops.gaussian import gaussian_window
from lexiseg.types import chunks

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2

_CHUNK_ELEMENTS = 1 << 22
"""Upsampled logits looked at together: the dozen buffers of one chunk, not of all classes, are alive at a time."""


def structural_similarity(first: Tensor, second: Tensor, window: Tensor) -> Tensor:
    """SSIM of every pixel: ``(2 m1 m2 + C1)(2 s12 + C2) / ((m1^2 + m2^2 + C1)(s1 + s2 + C2))``.

    Means m, variances s1, s2 and covariance s12 are taken in a window around the pixel; beyond the border are zeros.

    Args:
        first: ``(M, H, W)``.
        second: ``(M, H, W)``.
        window: ``(n,)`` weights of one axis that sum to 1, n odd.

    Returns:
        ``(M, H, W)``, at most 1.
    """
    maps = torch.stack([first, second, first * first, second * second, first * second]).flatten(0, 1)[:, None]
    pad = len(window) // 2
    blurred = F.conv2d(maps, window.view(1, 1, -1, 1), padding=(pad, 0))
    blurred = F.conv2d(blurred, window.view(1, 1, 1, -1), padding=(0, pad))
    m1, m2, square1, square2, product = blurred[:, 0].unflatten(0, (5, -1))
    s1, s2, s12 = square1 - m1 * m1, square2 - m2 * m2, product - m1 * m2
    return (2 * m1 * m2 + _C1) * (2 * s12 + _C2) / ((m1 * m1 + m2 * m2 + _C1) * (s1 + s2 + _C2))


def mask_ssim_loss(logits: Tensor, labels: Tensor, *, ignored: IgnoredPixels = "negative") -> Tensor:
    """``1 - SSIM`` of upsampled raw logits against masks of 0 and 1, mean over pixels, classes and images.

    Logits and not probabilities, as SPT-SEG's release has it; window 11, deviation 1.5. Computed again in the backward
    pass, a few classes of one image at a time, so that full-size tensors per class never pile up.

    Args:
        logits: ``(B, K, h, w)``.
        labels: ``(B, H, W)`` int64 class indices below K, or 255.
        ignored: What 255 is: of no class, or no centre of a window (it still lies within its neighbours').
    """
    batch, classes = logits.shape[:2]
    height, width = labels.shape[-2:]
    window = gaussian_window(_WINDOW, _SIGMA).to(logits.device)
    counted = torch.ones_like(labels, dtype=torch.bool) if ignored == "negative" else labels != IGNORE_INDEX
    step = max(_CHUNK_ELEMENTS // (height * width), 1)
    total = logits.new_zeros((), dtype=torch.float32)
    for image in range(batch):
        for part in chunks(classes, step):
            ids = torch.arange(part.start, min(part.stop, classes), device=labels.device)
            similar = partial(_summed_similarity, labels[image], counted[image], ids, window)
            total = total + checkpoint(similar, logits[image, part], use_reentrant=False)
    return 1 - total / (counted.sum().clamp(min=1) * classes)


def _summed_similarity(label: Tensor, counted: Tensor, ids: Tensor, window: Tensor, logits: Tensor) -> Tensor:
    with torch.autocast(logits.device.type, enabled=False):  # a variance of differences needs float32
        upsampled = F.interpolate(
            logits[None].float(), size=label.shape, mode="bilinear", align_corners=False
        )[0]
        masks = (label == ids[:, None, None]).float()
        return (structural_similarity(upsampled, masks, window) * counted).sum()
