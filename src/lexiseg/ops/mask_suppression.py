"""Which of many overlapping mask candidates to keep."""

import torch
from torch import Tensor

_ROWS = 256
"""Masks compared at once with all others."""


def stability_score(logits: Tensor, *, threshold: float = 0.0, offset: float = 1.0) -> Tensor:
    """How little a mask changes when its threshold does (Kirillov et al., Segment Anything, 2023, section 5).

    The intersection over union of the mask at ``threshold + offset`` with that at ``threshold - offset``; the
    first lies within the second, so both are plain counts.

    Args:
        logits: ``(N, H, W)`` mask logits.
        threshold: Where a pixel counts as on.
        offset: How far it is moved up and down.

    Returns:
        N scores in [0, 1]; 0 for a mask that is empty even at the lower threshold, where the release divides 0 by 0.
    """
    inner = (logits > threshold + offset).flatten(1).sum(1)
    outer = (logits > threshold - offset).flatten(1).sum(1)
    return inner / outer.clamp(min=1)


def box_overlaps(boxes: Tensor) -> Tensor:
    """Intersection over union of each pair of boxes.

    Args:
        boxes: ``(N, 4)`` as left, top, width, height in pixels, at least one pixel each.

    Returns:
        ``(N, N)`` in [0, 1].
    """
    start, size = boxes[:, :2].double(), boxes[:, 2:].double()
    end = start + size
    shared = torch.minimum(end[:, None], end[None]) - torch.maximum(start[:, None], start[None])
    intersection, areas = shared.clamp(min=0).prod(-1), size.prod(-1)
    return intersection / (areas[:, None] + areas[None] - intersection)


def mask_overlaps(masks: Tensor) -> Tensor:
    """Intersection over union of each pair of masks, 0 where both are empty.

    Args:
        masks: ``(N, H, W)`` bool.

    Returns:
        ``(N, N)`` in [0, 1].
    """
    flat = masks.flatten(1).float()
    areas = flat.sum(1)
    rows = [part @ flat.T for part in flat.split(_ROWS)]
    intersection = torch.cat(rows) if rows else flat.new_zeros(0, 0)
    return intersection / (areas[:, None] + areas[None] - intersection).clamp(min=1)


def suppress_overlaps(overlaps: Tensor, scores: Tensor, *, limit: float) -> Tensor:
    """Greedy non-maximum suppression: the best first, then each that overlaps none of the kept by more than ``limit``.

    Args:
        overlaps: ``(N, N)`` symmetric.
        scores: N; equal ones are taken in their order.
        limit: Largest overlap with a better one that is let pass.

    Returns:
        Indices of the kept ones, the best first.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    open_yet = torch.ones(len(scores), dtype=torch.bool)
    kept = []
    for index in order.tolist():
        if open_yet[index]:
            kept.append(index)
            open_yet &= overlaps[index] <= limit
    return torch.tensor(kept, dtype=torch.int64)
