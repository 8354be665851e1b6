"""From a first segmentation to an attention between patches of one object (ResCLIP's semantic feedback)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.ops.pamr import ColorAffinity, pamr

_CLASSES_AT_ONCE = 32
"""Classes whose full-size maps exist at the same time."""

_EMPTY_ROW = 1e-8
"""Added to a row's sum before dividing (published constant)."""


def confident_classes(
    logits: Tensor, colors: ColorAffinity, *, scale: float, threshold: float, refine_steps: int
) -> Tensor:
    """Class of every pixel after upsampling and colour refinement, 0 below a least probability.

    Runs through the classes in chunks: neither the upsampled logits nor their softmax ever exist for all of
    them.

    Args:
        logits: ``(B, K, h, w)`` cosines.
        colors: Affinity of the images' colours, at H×W.
        scale: Factor on the logits before the softmax.
        threshold: Least probability of a class that counts.
        refine_steps: Steps of the refinement.

    Returns:
        ``(B, H, W)`` int64.
    """
    size = colors.weights.shape[-2:]
    best = torch.full((len(logits), *size), -torch.inf, device=logits.device)
    total = best.clone()
    classes = torch.zeros(best.shape, dtype=torch.int64, device=logits.device)
    for start in range(0, logits.shape[1], _CLASSES_AT_ONCE):
        part = logits[:, start : start + _CLASSES_AT_ONCE].float()
        part = F.interpolate(part, size=size, mode="bilinear", align_corners=False)
        part = pamr(part, colors, steps=refine_steps) * scale
        value, index = part.max(dim=1)
        classes = torch.where(value > best, index + start, classes)
        best = torch.maximum(best, value)
        total = torch.logaddexp(total, part.logsumexp(dim=1))
    return classes.masked_fill_((best - total).exp() < threshold, 0)


def patch_majority(classes: Tensor, patch_size: int) -> Tensor:
    """Most frequent class of every whole patch: ``(B, H, W)`` to ``(B, H // patch, W // patch)``."""
    patches = classes.unfold(1, patch_size, patch_size).unfold(2, patch_size, patch_size)
    return patches.flatten(3).mode(dim=-1).values


def semantic_affinity(classes: Tensor, *, decay_detached: bool, sigma: float) -> Tensor:
    """Affinity between patches of the same class on one grid.

    ``[C_i = C_j]``, times ``exp(-cheb(i, j) / max cheb)`` where the straight line from i to j leaves the
    class, then a Gaussian over the row-major patch index, then rows divided by their sums. The line is
    sampled with the step of the grid's longest pair, so that short pairs are tested on a first part of their
    line only; that, and a Gaussian that wraps from one row of the image to the next, are the release's.

    Args:
        classes: ``(h, w)`` int64.
        decay_detached: Let the affinity decay with distance where the line leaves the class.
        sigma: Width of the Gaussian in patches.

    Returns:
        ``(P, P)`` float32.
    """
    flat = classes.flatten()
    affinity = (flat[:, None] == flat).float()
    if decay_detached:
        connected, decay = _straight_paths(classes)
        affinity = torch.where(connected, affinity, affinity * decay)
    count = len(flat)
    taps = min(count, int(6 * sigma + 1))
    taps += 1 - taps % 2
    steps = torch.arange(taps, device=classes.device) - taps // 2
    kernel = torch.exp(-(steps**2) / (2 * sigma**2))
    smoothed = F.conv1d(affinity[:, None], (kernel / kernel.sum()).view(1, 1, -1), padding=taps // 2)[:, 0]
    return smoothed / (smoothed.sum(dim=1, keepdim=True) + _EMPTY_ROW)


def _straight_paths(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the sampled line between patches keeps the first one's class, and their decay; ``(P, P)``."""
    height, width = classes.shape
    rows = torch.arange(height, device=classes.device).repeat_interleave(width)
    columns = torch.arange(width, device=classes.device).repeat(height)
    distance = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    longest = int(distance.max())
    connected = torch.ones_like(distance, dtype=torch.bool)
    flat = classes.flatten()
    for step, share in enumerate(torch.linspace(0, 1, longest + 1, device=classes.device)):
        row = (rows[:, None] * (1 - share) + rows * share).round().long()
        column = (columns[:, None] * (1 - share) + columns * share).round().long()
        connected &= (flat[row * width + column] == flat[:, None]) | (step > distance)
    return connected, torch.exp(-distance / max(longest, 1))
