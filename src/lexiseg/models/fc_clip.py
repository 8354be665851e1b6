"""FC-CLIP: one frozen convolutional CLIP proposes regions and names them (Yu et al., NeurIPS 2023)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lexiseg.models.parameter_groups import group_by_module
from lexiseg.models.patch_stages import (
    CONVOLUTIONAL,
    PatchStages,
    clip_stride,
    is_convolutional,
    region_pooling,
)
from lexiseg.models.proposers.mask2former import Mask2Former, Mask2FormerSettings
from lexiseg.models.region_classifiers.mask_pooling import MaskPooling
from lexiseg.models.region_classifiers.pooled_queries import PooledQueries
from lexiseg.models.region_model import RegionModel, require_tower, with_given_masks
from lexiseg.models.region_parts import Scene
from lexiseg.ops.score_ensemble import append_nothing, geometric_ensemble, renormalised
from lexiseg.plain_settings import within
from lexiseg.types import (
    ClassifiedMasks,
    ClassWords,
    GroupSettings,
    Proposals,
    SegmentOutput,
    SegmentPrediction,
    StageTower,
)


@dataclass(frozen=True)
class FCClipSettings(Mask2FormerSettings):
    """Every choice of FC-CLIP; defaults are the release's with ConvNeXt-L.

    Attributes:
        name: What configurations and checkpoints call it.
        scale: Of a ViT's cosines with words; a convolutional CLIP brings its own.
        seen_share: Weight of the frozen classifier for a class that carried labels in training (the paper's alpha).
        unseen_share: Likewise for every other class (beta).
        others: See :class:`~lexiseg.models.proposers.mask2former.Mask2FormerSettings`.
    """

    name: str = "fc_clip"
    scale: float = within(100.0, above=0, at_most=100)
    seen_share: float = within(0.4, at_least=0, at_most=1)
    unseen_share: float = within(0.8, at_least=0, at_most=1)


@dataclass(frozen=True)
class FCClipState:
    """What FC-CLIP knows of photographs before any word.

    Attributes:
        masks: ``(B, N, h, w)`` mask logits at stride 4.
        trained: ``(B, N, E)`` embeddings of the trained classifier.
        frozen: ``(B, N, E)`` embeddings of the frozen one.
        visible: ``(B, N)`` bool, whether the frozen classifier saw the region.
    """

    masks: Tensor
    trained: Tensor
    frozen: Tensor
    visible: Tensor


class FCClip(RegionModel):
    """Mask2Former on a frozen convolutional CLIP, named by a trained and a frozen classifier.

    The trained one compares queries with words; the frozen one is CLIP's own pooling under each mask. Their scores are
    mixed as a geometric mean, with another weight for classes that training had labels for (eq. 7). A class with several
    words counts by the best of them.

    Scores are the release's: its probabilities pass a second soft-max, which adds 1e-8 to each.

    The paper's point is a convolutional CLIP, whose map may be larger than in its own training. A ViT is read too, which
    nobody published: its text-aligned patches, brought to four scales by a small trained pyramid.

    Args:
        tower: Frozen CLIP with a ConvNeXt or a ResNet, or a ViT; not part of the state dict.
        settings: Sizes and weights.

    Raises:
        ConfigError: The tower is of another kind.
    """

    def __init__(self, tower: StageTower, settings: FCClipSettings | None = None) -> None:
        settings = settings or FCClipSettings()
        require_tower(tower, model=settings.name, kinds=(*CONVOLUTIONAL, "ViT"))
        super().__init__(tower, settings, stride=clip_stride(tower))
        self.stages = None if is_convolutional(tower) else PatchStages(tower.embed_dim)
        self.proposer = Mask2Former(
            tower.stage_widths if self.stages is None else self.stages.widths, settings
        )
        self.classifier = PooledQueries(settings.width, tower.embed_dim)

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for AdamW; norms and embeddings are exempt from decay unless ``decay_norms``."""
        return group_by_module(self, optim)

    def encode(self, images: Tensor, content: tuple[int, int] | None = None) -> FCClipState:
        """Find regions and embed each twice.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of 32.
            content: Not asked: as in the release, padding takes part in attention and pooling.

        Raises:
            ConfigError: H or W is no multiple of 32.
        """
        del content
        maps, last = self._maps(images)
        return self._embedded(self.proposer(maps), last)

    def encode_masks(
        self, images: Tensor, masks: Tensor, content: tuple[int, int] | None = None
    ) -> FCClipState:
        """Each with the query of the proposal that it overlaps most; both classifiers pool under the given mask itself."""
        del content
        maps, last = self._maps(images)
        return self._embedded(with_given_masks(self.proposer(maps), masks), last)

    def _embedded(self, proposals: Proposals, last: Tensor) -> FCClipState:
        frozen, visible = self._pooling.embed(proposals, last)
        return FCClipState(proposals.masks, self.classifier.embed(proposals), frozen, visible)

    def classify(self, state: FCClipState, words: ClassWords) -> ClassifiedMasks:
        """Scores of every region for all classes and for nothing, which sum to 1."""
        logits = self.classifier.logits(state.trained, words)
        outside = self._pooling.logits(state.frozen, words)
        share = torch.where(words.seen, self.settings.seen_share, self.settings.unseen_share)
        mixed = geometric_ensemble(logits[..., :-1], outside, share * state.visible[..., None])
        scores = renormalised(append_nothing(mixed, logits.softmax(-1)[..., -1]))
        return ClassifiedMasks(state.masks, scores[..., :-1], scores[..., -1])

    def forward(self, images: Tensor, text: Tensor | ClassWords) -> SegmentOutput:
        """What the loss reads: the prediction before the first decoder layer and after each, by the trained classifier.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of 32.
            text: ``(K, E)`` unit text, one row per class; or classes with several words each.
        """
        words = text if isinstance(text, ClassWords) else ClassWords.plain(text)
        proposals = self.proposer(self._maps(images)[0])
        predictions = (
            SegmentPrediction(self.classifier.logits(self.classifier.embed(each), words), each.masks)
            for each in (*proposals.earlier, proposals)
        )
        return SegmentOutput(tuple(predictions))

    @property
    def _pooling(self) -> MaskPooling:
        return MaskPooling(region_pooling(self.tower, self.settings.scale))

    def _maps(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps at four scales, each half as large as the one before, and the frozen one that regions are pooled from."""
        scene = Scene(self.tower, images)
        return scene.stage_maps if self.stages is None else self.stages(scene.last_map), scene.last_map
