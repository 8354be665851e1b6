"""Average precision of scored masks as COCO counts it: pure functions. D found, G true masks, T thresholds."""

import numpy as np
import torch
from torch import Tensor

IOU_THRESHOLDS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Of COCO's AP: from 0.5 to 0.95."""

RECALLS = 101
"""Points at which precision is read off, from 0 to 1."""

MISS, HIT, IGNORED = 0, 1, 2
"""What a found mask is at a threshold; what matches a crowd counts neither way."""


def match_masks(iou: Tensor, crowds: Tensor, thresholds: Tensor) -> Tensor:
    """Give each found mask of one class to at most one true mask of one photograph (COCO API, ``evaluateImg``).

    The best-scored chooses first: the free true mask of the highest IoU that reaches the threshold. A crowd is chosen only
    where no true mask is left, and by any number.

    Args:
        iou: ``(D, G)``, found masks by descending score; with a crowd: intersection over the found mask's own area.
        crowds: ``(G,)`` bool.
        thresholds: ``(T,)`` in (0, 1).

    Returns:
        ``(D, T)`` uint8: ``MISS``, ``HIT`` or ``IGNORED``.
    """
    found = torch.zeros(len(iou), len(thresholds), dtype=torch.uint8)
    own, of_crowds = iou[:, ~crowds], iou[:, crowds]
    for column, threshold in enumerate(thresholds.tolist()):
        free = torch.ones(own.shape[1], dtype=torch.bool)
        for row in range(len(iou)):
            candidates = torch.where(free, own[row], -1.0)
            best = int(candidates.argmax()) if len(candidates) else -1
            if best >= 0 and candidates[best] >= threshold:
                found[row, column], free[best] = HIT, False
            elif (of_crowds[row] >= threshold).any():
                found[row, column] = IGNORED
    return found


def average_precision(scores: Tensor, found: Tensor, positives: int) -> Tensor:
    """Area under precision by recall of one class over a data set (COCO API, ``accumulate``).

    Args:
        scores: ``(D,)`` of all found masks; equal ones count in their order.
        found: ``(D, T)`` from :func:`match_masks`.
        positives: True masks that are no crowd; at least 1.

    Returns:
        ``(T,)`` float64 mean over recalls 0, 0.01 … 1 of the highest precision at that recall or beyond, 0 where none reaches
        it.
    """
    found = found[scores.argsort(descending=True, stable=True)]
    hits = (found == HIT).double().cumsum(dim=0)
    misses = (found == MISS).double().cumsum(dim=0)
    recall = hits / positives
    precision = hits / (hits + misses).clamp(min=torch.finfo(torch.double).eps)
    best_beyond = precision.flip(0).cummax(dim=0).values.flip(0) if len(found) else precision
    wanted = torch.from_numpy(np.linspace(0, 1, RECALLS))  # to the last digit: 7 of 10 is below COCO's 0.7
    place = torch.searchsorted(recall.T.contiguous(), wanted.expand(found.shape[1], -1).contiguous())
    padded = torch.cat([best_beyond, best_beyond.new_zeros(1, found.shape[1])])
    return padded.T.gather(1, place).mean(dim=1)
