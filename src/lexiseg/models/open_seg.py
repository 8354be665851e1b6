"""OpenSeg (Ghiasi et al., ECCV 2022): regions without names, named by a map that was trained on captions' words."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.losses.open_seg_criterion import OpenSegLossSettings
from lexiseg.models.proposers.cross_attention import (
    GREY,
    CrossAttentionProposer,
    CrossAttentionSettings,
    convolutional_head,
)
from lexiseg.models.region_classifiers.soft_pooling import SoftPooling
from lexiseg.models.region_model import RegionModel
from lexiseg.ops.class_vectors import mean_vectors
from lexiseg.plain_settings import within
from lexiseg.types import (
    Activation,
    ClassifiedMasks,
    ClassWords,
    ImageTower,
    MaskOutput,
    Proposals,
    SegmentOutput,
    SegmentPrediction,
)


@dataclass(frozen=True)
class OpenSegSettings(CrossAttentionSettings):
    """Every architectural choice of OpenSeg; no code was released, so sizes beyond the paper's are ours.

    Attributes:
        name: ``open_seg``.
        temperature: What cosines are divided by before the soft-max over classes; ours.
        reading: ``regions``, or ``pixels``: the map itself against words, the paper's weaker variant.
    """

    name: str = "open_seg"
    temperature: float = within(0.01, above=0)
    reading: Literal["regions", "pixels"] = "regions"

    @property
    def answers(self) -> Activation:
        """What the model's answers are read as: scores of regions, or logits of pixels."""
        return "scores" if self.reading == "regions" else "linear"


_FINEST = 4
"""Stride of its maps."""


class OpenSegState(NamedTuple):
    """Photographs before any word is known.

    Attributes:
        proposals: Regions.
        features: ``(B, E, h, w)`` the map in the words' space, F_z.
        embeddings: ``(B, N, E)`` of each region in that space, not normalised.
    """

    proposals: Proposals
    features: Tensor
    embeddings: Tensor


class OpenSeg(RegionModel):
    """Regions by cross-attention; the mean of a second map under each, against the words.

    The image tower of CLIP takes no part: only its words do.

    Args:
        tower: The frozen image tower of the CLIP whose words are used; not part of the state dict.
        settings: Architecture.
    """

    own_loss = OpenSegLossSettings()

    def __init__(self, tower: ImageTower, settings: OpenSegSettings | None = None) -> None:
        settings = settings or OpenSegSettings()
        super().__init__(tower, settings, colors=(GREY, GREY), stride=32)
        self.proposer = CrossAttentionProposer(settings)
        self.alignment = convolutional_head(settings.features, tower.embed_dim)
        self.classifier = SoftPooling(settings.temperature)
        regions = settings.reading == "regions"
        self.names_regions = self.depends_on_text = self.words_together = regions
        self.activation = settings.answers
        self.cells_per_patch = (self.patch_size // _FINEST) ** 2

    def encode(self, images: Tensor, content: tuple[int, int] | None = None) -> OpenSegState:
        """Find regions, before any word is known.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of 32.
            content: Not read: padding is mid-grey, as in training.
        """
        del content
        proposals, merged = self.proposer(images)
        features = self.alignment(merged)
        return OpenSegState(proposals, features, self.classifier.embed(proposals, features))

    def encode_masks(
        self, images: Tensor, masks: Tensor, content: tuple[int, int] | None = None
    ) -> OpenSegState:
        """The map is averaged under the given masks."""
        del content
        _, merged = self.proposer(images)
        features, given = self.alignment(merged), Proposals(masks)
        return OpenSegState(given, features, self.classifier.embed(given, features))

    def classify(self, state: OpenSegState, words: ClassWords) -> ClassifiedMasks:
        """Name the regions: the soft-max over classes, whose vector is the mean of their words' (the release's way)."""
        text = mean_vectors(words.text, words.class_ids, words.classes)
        return ClassifiedMasks(state.proposals.masks, self.classifier.scores(state.embeddings, text))

    def decode(self, state: OpenSegState, text: Tensor) -> MaskOutput:
        """Maps ``(B, K, h, w)`` for unit text ``(K, E)``: of regions' scores, or of pixels' logits, as ``reading`` says."""
        return (
            super().decode(state, text) if self.names_regions else MaskOutput(self.pixel_logits(state, text))
        )

    def pixel_logits(self, state: OpenSegState, text: Tensor) -> Tensor:
        """``(B, K, h, w)`` of pixels themselves, for unit text ``(K, E)``."""
        cosines = torch.einsum(
            "behw,ke->bkhw", F.normalize(state.features, dim=1), text.to(state.features.dtype)
        )
        return cosines / self.settings.temperature

    def forward(self, images: Tensor, text: Tensor) -> SegmentOutput:
        """What trains, whichever way it is read: regions with class logits, whose "no object" nothing can be."""
        state = self.encode(images)
        logits = self.classifier.logits(state.embeddings, text)
        never = logits.new_full((*logits.shape[:-1], 1), -torch.inf)
        prediction = SegmentPrediction(torch.cat([logits, never], dim=-1), state.proposals.masks)
        return SegmentOutput((prediction,))
