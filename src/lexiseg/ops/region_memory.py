"""What the regions of a photograph are like, and what regions of other photographs add to them (CorrCLIP's memory).

Zhang et al., the extended CorrCLIP. Letters: P patches of a photograph, R regions, C channels of the vision model that
compares, E of the space shared with words, N regions remembered of each. Ids are those of :mod:`lexiseg.ops.region_ids`.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from lexiseg.ops.bounded_attention import means_by_id


class DescribedRegions(NamedTuple):
    """The regions of one photograph.

    Attributes:
        ids: ``(R,)`` those that have a patch, ascending, the unsegmented one included.
        places: ``(P,)`` int64, which of them each patch belongs to.
        keys: ``(R, C)`` unit mean of the comparing features.
        values: ``(R, E)`` mean of the unit features that words are compared with.
    """

    ids: Tensor
    places: Tensor
    keys: Tensor
    values: Tensor


def describe_regions(comparing: Tensor, speaking: Tensor, ids: Tensor) -> DescribedRegions:
    """Key and value of each region.

    Args:
        comparing: ``(P, C)`` features of the model that tells which regions are alike.
        speaking: ``(P, E)`` unit features that words are compared with, or means of such.
        ids: ``(P,)``.
    """
    found, places, keys = means_by_id(comparing, ids)
    _, _, values = means_by_id(speaking, ids)
    return DescribedRegions(found, places, F.normalize(keys, dim=1), values)


def remember(values: Tensor) -> Tensor:
    """``(R, N, E)`` values of the regions most like each of R ones to their unit mean ``(R, E)``."""
    return F.normalize(values.mean(dim=1), dim=1)


def mix_memory(own: Tensor, remembered: Tensor, places: Tensor, *, share: float) -> Tensor:
    """``(1 - share) own + share remembered`` patch by patch: inner products with words mix likewise.

    Args:
        own: ``(P, E)`` unit features of a photograph's patches, or means of such.
        remembered: ``(R, E)`` of its regions.
        places: ``(P,)`` the region of each patch.
        share: From 0 to 1; 0.5 as published.
    """
    return (1 - share) * own + share * remembered[places]
