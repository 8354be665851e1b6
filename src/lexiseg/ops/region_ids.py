"""Overlapping masks as one map of region ids, on any grid, and labels of which every region has one.

Ids are int64: 0 where no mask lies (:data:`UNSEGMENTED`), 1 and more for regions, -1 for what lies beyond the picture
(:data:`OUTSIDE`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

UNSEGMENTED = 0
"""The id of pixels that no mask covers."""

OUTSIDE = -1
"""The id of padding: a region of its own, which nothing joins."""


def region_ids(masks: Tensor) -> Tensor:
    """Ids ``(H, W)`` of ``(M, H, W)`` bool masks, CorrCLIP's rule for SAM 2: larger masks overwrite smaller ones.

    Regions are numbered from 1 by ascending area, equal ones in their order; a region that is wholly overwritten has no pixel.
    """
    ids = torch.full(masks.shape[1:], UNSEGMENTED, dtype=torch.int64, device=masks.device)
    order = masks.flatten(1).sum(dim=1).argsort(stable=True).tolist()
    for number, index in enumerate(order, start=1):
        ids[masks[index]] = number
    return ids


def ids_at(ids: Tensor, size: tuple[int, int]) -> Tensor:
    """Ids ``(…, H, W)`` of any type at another size, the nearest pixel's (torch's ``nearest``)."""
    if tuple(ids.shape[-2:]) == size:
        return ids
    rows, columns = (
        F.interpolate(torch.arange(old, dtype=torch.float64)[None, None], size=new, mode="nearest").long()
        for old, new in zip(ids.shape[-2:], size, strict=True)
    )
    return ids[..., rows.view(-1, 1), columns.view(-1)]


def one_label_per_region(labels: Tensor, ids: Tensor) -> Tensor:
    """Labels ``(H, W)`` in which every region has its most frequent one; of equals the smallest.

    What is :data:`UNSEGMENTED` keeps its own. The published map correction takes the smallest id of a picture for
    unsegmented even where every pixel has a region, so that one region stays uncorrected; here all are corrected.

    Args:
        labels: ``(H, W)`` of any integer type, at least 0.
        ids: ``(H, W)`` int64, at least 0.
    """
    count, regions = int(labels.max()) + 1, int(ids.max()) + 1
    places = ids.flatten() * count + labels.flatten().long()
    votes = torch.bincount(places, minlength=regions * count).view(regions, count)
    # Between equal votes argmax may take any: a distinct number for each class decides.
    smallest_first = torch.arange(count - 1, -1, -1, device=labels.device)
    chosen = (votes * count + smallest_first).argmax(dim=1).to(labels.dtype)
    return torch.where(ids == UNSEGMENTED, labels, chosen[ids])
