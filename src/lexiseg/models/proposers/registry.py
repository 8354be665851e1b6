"""Proposers by name: how a composed model says which one finds its regions."""

from lexiseg.models.proposers.adapters import (
    CrossAttention,
    Mask2FormerProposer,
    MaskFormerProposer,
    SideAdapterProposer,
)
from lexiseg.models.proposers.cross_attention import CrossAttentionSettings
from lexiseg.models.proposers.given import GivenMasks, GivenMasksSettings
from lexiseg.models.proposers.mask2former import Mask2FormerSettings
from lexiseg.models.proposers.maskformer import MaskFormerSettings
from lexiseg.models.proposers.side_adapter_settings import SideAdapterOnClipSettings
from lexiseg.models.region_parts import Part

PROPOSERS: dict[str, Part] = {
    "mask2former": Part(Mask2FormerProposer, Mask2FormerSettings),
    "maskformer": Part(MaskFormerProposer, MaskFormerSettings),
    "cross_attention": Part(CrossAttention, CrossAttentionSettings),
    "side_adapter": Part(SideAdapterProposer, SideAdapterOnClipSettings),
    "given": Part(GivenMasks, GivenMasksSettings),
}
"""Every proposer; it keeps the contract of :class:`~lexiseg.models.region_parts.Proposer`."""
