"""SAN: a side adapter on a frozen CLIP proposes regions, and CLIP's own last blocks name them (Xu et al., CVPR 2023)."""

import math
from typing import Any

from torch import Tensor, nn

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.models.early_blocks import trained_early_blocks
from lexiseg.models.parameter_groups import group_exempting
from lexiseg.models.proposers.side_adapter import SideAdapter
from lexiseg.models.region_classifiers.shadow_tokens import ShadowTokens
from lexiseg.models.region_model import RegionModel
from lexiseg.models.san_settings import SANSettings
from lexiseg.types import (
    ClassifiedMasks,
    ClassWords,
    GroupSettings,
    Proposals,
    SegmentOutput,
    SegmentPrediction,
)

_STRIDE = 32
"""What the release pads images to."""


class SAN(RegionModel):
    """CLIP's first blocks run once on a smaller image; the side adapter and the shadow class tokens both read them.

    All of CLIP is frozen but for its position embedding, of which the model holds a trained copy.

    Args:
        tower: Frozen CLIP ViT; not part of the state dict.
        settings: Sizes; SAN with CLIP ViT-B/16 if not given.

    Raises:
        ConfigError: The tower is of another kind, or has no block left for the shadow tokens.
    """

    def __init__(self, tower: VisionTower, settings: SANSettings | None = None) -> None:
        settings = settings or SANSettings()
        early = trained_early_blocks(
            tower,
            model=settings.name,
            last=settings.early_blocks,
            kept=frozenset(block for block, _ in settings.fusion),
            resolution=settings.resolution,
        )
        super().__init__(tower, settings, stride=math.lcm(_STRIDE, settings.patch))
        self.early = early
        self.proposer = SideAdapter(tower.width, settings)
        self.classifier = ShadowTokens(
            pixel_width=settings.width,
            region_width=settings.decoder_width,
            hidden=settings.decoder_hidden,
            heads=tower.num_heads,
            embed_dim=tower.embed_dim,
            scale=settings.scale,
        )

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for AdamW, as released.

        Queries and positions are never decayed, the side ViT's norms only with ``decay_norms``; all else is: biases, and
        the norms of the fusion too.
        """
        embeddings = (
            self.early.positions,
            self.proposer.queries,
            self.proposer.query_positions,
            self.proposer.positions,
        )
        norms = (
            parameter
            for module in self.proposer.blocks.modules()
            if isinstance(module, nn.LayerNorm)
            for parameter in module.parameters()
        )
        exempt = {id(parameter) for parameter in (*embeddings, *(() if optim.decay_norms else norms))}
        return group_exempting(self, optim, exempt)

    def encode(self, images: Tensor, content: tuple[int, int] | None = None) -> Proposals:
        """Find regions and embed them.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of the stride.
            content: Not asked: as in the release, padding is seen like any other pixel.

        Returns:
            Masks ``(B, N, h, w)`` and unit embeddings ``(B, N, E)`` in the text space.
        """
        del content
        early = self.early(self.tower, images)
        found = self.proposer(images, early, last_only=True)
        return Proposals(found.masks, self.classifier.embed(found, early, self.tower))

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image: those of the shadow tokens' attention."""
        patch = self.tower.patch_size / self.early.resolution
        return self.classifier.attention_bytes(
            self.settings.queries, int(height / patch) * int(width / patch)
        )

    def encode_masks(
        self, images: Tensor, masks: Tensor, content: tuple[int, int] | None = None
    ) -> Proposals:
        """Shadow tokens look at the patches that the given region touches; the side adapter is not asked."""
        del content
        early, given = self.early(self.tower, images), Proposals(masks)
        return Proposals(masks, self.classifier.embed(given, early, self.tower))

    def classify(self, state: Proposals, words: ClassWords) -> ClassifiedMasks:
        """Scores of every region for all classes and for nothing, which sum to 1; the best of a class's words counts."""
        if state.embeddings is None:
            raise ValueError("expected the state that encode gives")
        scores = self.classifier.logits(state.embeddings, words).softmax(-1)
        return ClassifiedMasks(state.masks, scores[..., :-1], scores[..., -1])

    def forward(self, images: Tensor, text: Tensor | ClassWords) -> SegmentOutput:
        """What the loss reads, of every decoded block.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of the stride.
            text: ``(K, E)`` unit text, one row per class; or classes with several words each.
        """
        words = text if isinstance(text, ClassWords) else ClassWords.plain(text)
        early = self.early(self.tower, images)
        found = self.proposer(images, early)
        predictions = []
        for each in (*found.earlier, found):
            embeddings = self.classifier.embed(each, early, self.tower)
            logits = self.classifier.logits(embeddings, words)
            predictions.append(SegmentPrediction(logits, each.masks))
        return SegmentOutput(tuple(predictions))
