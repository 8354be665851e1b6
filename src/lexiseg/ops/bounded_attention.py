"""Attention that stays within regions, and regions that are joined where their features are alike (CorrCLIP).

Zhang et al., CorrCLIP, ICCV 2025, section 3. Letters: B images, P patches, C channels, R regions. Ids are those of
:mod:`lexiseg.ops.region_ids`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.ops.region_ids import UNSEGMENTED


def means_by_id(features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean feature under each id that occurs.

    Args:
        features: ``(P, C)``.
        ids: ``(P,)``.

    Returns:
        The ids ``(R,)`` ascending, which of them each patch has, ``(P,)`` int64, and the means ``(R, C)``.
    """
    values, places = ids.unique(return_inverse=True)
    inside = F.one_hot(places, len(values)).to(features.dtype)
    return values, places, (inside.T @ features) / inside.sum(dim=0)[:, None]


def region_means(features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Mean feature of each region, at unit length.

    Args:
        features: ``(P, C)``.
        ids: ``(P,)``.

    Returns:
        The ids that occur above :data:`UNSEGMENTED`, ``(R,)`` ascending, and ``(R, C)``.
    """
    values, _, means = means_by_id(features, ids)
    regions = values > UNSEGMENTED
    return values[regions], F.normalize(means[regions], dim=1)


def region_distances(means: Tensor) -> Tensor:
    """``max S - S`` for the cosines S ``(R, R)`` of unit means ``(R, C)``; the maximum is 1 up to rounding."""
    similarity = means @ means.T
    return similarity.max() - similarity


def linked_groups(linked: Tensor) -> Tensor:
    """The connected component of each of R things, ``(R,)`` int64 from 0 in the order in which they first occur.

    Links chain: DBSCAN with one sample per core point, which is single linkage.

    Args:
        linked: ``(R, R)`` bool, symmetric, true on the diagonal.
    """
    count = len(linked)
    smallest = torch.arange(count, device=linked.device)
    while count:
        reached = torch.where(linked, smallest, count).amin(dim=1)
        if torch.equal(reached, smallest):
            break
        smallest = reached
    groups: Tensor = smallest.unique(return_inverse=True)[1]
    return groups


def merge_alike(features: Tensor, ids: Tensor, *, distance: float) -> Tensor:
    """Ids in which regions of like mean features are one region, numbered from 1; the others keep their ids.

    Args:
        features: ``(P, C)`` of a window's patches, unit length.
        ids: ``(P,)``.
        distance: Regions up to this :func:`region_distances` apart are joined, in chains; 0.2 in the paper.
    """
    values, means = region_means(features, ids)
    if len(values) < 2:
        return ids
    groups = 1 + linked_groups(region_distances(means) <= distance)
    places = torch.searchsorted(values, ids).clamp(max=len(values) - 1)
    return torch.where(ids > UNSEGMENTED, groups[places], ids)


def bounded_weights(similarity: Tensor, ids: Tensor, *, sharpness: float) -> Tensor:
    """``softmax(τ S)`` over the patches that each patch may see; one matrix for all heads.

    Patches of one region see each other. Where at least one of two patches is unsegmented, they do if their similarity
    exceeds its mean over the whole window. A patch always sees itself, which in the published code could fail in a window of
    one colour.

    Args:
        similarity: ``(B, P, P)`` cosines S.
        ids: ``(B, P)``.
        sharpness: τ; 4 in the release.

    Returns:
        ``(B, P, P)``, rows sum to 1.
    """
    free = ids == UNSEGMENTED
    same = (ids[:, :, None] == ids[:, None]) & ~free[:, :, None]
    either = free[:, :, None] | free[:, None]
    above = similarity > similarity.mean(dim=(1, 2), keepdim=True)
    itself = torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)
    allowed = same | (either & above) | itself
    return (sharpness * similarity).masked_fill(~allowed, -torch.inf).softmax(dim=-1)
