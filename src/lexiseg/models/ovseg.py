"""OVSeg: MaskFormer's regions, named by their embedding and by a CLIP that was taught masked regions (Liang et al., 2023)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.losses.segment_criterion import MASKFORMER
from lexiseg.models.parameter_groups import group_by_module
from lexiseg.models.proposers.backbone import BackboneKind
from lexiseg.models.proposers.maskformer import MaskFormer, MaskFormerSettings
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from lexiseg.models.region_classifiers.masked_crops import CropEmbeddings, MaskedCrops
from lexiseg.models.region_classifiers.segment_embedding import SegmentEmbedding
from lexiseg.models.region_model import RegionModel, with_given_masks
from lexiseg.models.region_parts import Scene
from lexiseg.ops.class_vectors import mean_vectors
from lexiseg.ops.given_regions import CERTAIN
from lexiseg.ops.region_scores import best_region_of_each_class, geometric_mean
from lexiseg.plain_settings import within
from lexiseg.types import (
    ClassifiedMasks,
    ClassWords,
    GroupSettings,
    ImageTower,
    Proposals,
    SegmentOutput,
    SegmentPrediction,
)

OvsegBranch = Literal["ensemble", "clip", "segment"]
"""Who names a region: both, the adapted CLIP alone, or the region's own embedding alone."""

NotShown = Literal["one", "segment"]
"""What stands in the ensemble for CLIP's score of a region that it was not shown: 1, as released, which makes it larger than
others, or the region's own score."""

Drawn = Literal["all", "best"]


@dataclass(frozen=True)
class OVSegSettings(MaskFormerSettings):
    """Every choice of OVSeg; defaults are the release's with Swin-B, for CLIP ViT-L/14.

    Attributes:
        name: What configurations and checkpoints call it.
        class_hidden: Hidden channels of the projection to the text's space.
        prompt_depth: How often mask prompt tokens are put in; 0 for none.
        branch: See :data:`OvsegBranch`.
        clip_weight: Weight of CLIP in the ensemble: 0.7 for ADE20K, 0.6 for PASCAL Context, 0.45 for PASCAL VOC.
        not_shown: See :data:`NotShown`.
        mask_threshold: A pixel belongs to a region where the sigmoid of its mask is above this: 0.4 with Swin-B, 0.5 with
            R-101c, 0.35 in the demonstration.
        drawn: ``all`` regions, or for each class only the ``best`` one, with a hard mask, as in the demonstration.
        crops_at_a_time: How many CLIP reads in one pass.
        others: See :class:`~lexiseg.models.proposers.maskformer.MaskFormerSettings`.
    """

    name: str = "ovseg"
    backbone: BackboneKind = "swin"
    backbone_width: int = within(128, at_least=4)
    backbone_depths: tuple[int, ...] = (2, 2, 18, 2)
    backbone_lr_scale: float = within(1.0, at_least=0)
    class_hidden: int = within(1024, at_least=1)
    prompt_depth: int = within(3, at_least=0)
    branch: OvsegBranch = "ensemble"
    clip_weight: float = within(0.7, at_least=0, at_most=1)
    not_shown: NotShown = "one"
    mask_threshold: float = within(0.4, at_least=0, below=1)
    drawn: Drawn = "all"
    crops_at_a_time: int = within(32, at_least=1)


@dataclass(frozen=True)
class OVSegState:
    """What OVSeg knows of photographs before any word.

    Attributes:
        proposals: Its regions.
        crops: What CLIP makes of each; None with the ``segment`` branch.
        padded: Height and width of the padded pictures.
    """

    proposals: Proposals
    crops: CropEmbeddings | None
    padded: tuple[int, int]


class OVSeg(RegionModel):
    """MaskFormer whose regions are cut out and read by CLIP with mask prompt tokens.

    The tokens are part of the state dict and do not train with the segmenter: they are tuned beforehand, on pairs of a region
    and a noun (:mod:`~lexiseg.models.mask_adaptation`). A class with several words has the mean of their vectors.

    Args:
        tower: Frozen CLIP, adapted to masked regions or not; not part of the state dict.
        settings: Sizes, branch and thresholds.

    Raises:
        ConfigError: Prompt tokens for a CLIP that cannot take them.
    """

    own_loss = MASKFORMER

    def __init__(self, tower: ImageTower, settings: OVSegSettings | None = None) -> None:
        settings = settings or OVSegSettings()
        super().__init__(tower, settings, colors=(IMAGENET_MEAN, IMAGENET_STD))
        self.proposer = MaskFormer(settings)
        self.classifier = SegmentEmbedding(
            self.proposer.embed_dim, tower.embed_dim, hidden=settings.class_hidden, background="unit"
        )
        prompts = MaskPrompts(tower, settings.prompt_depth) if settings.prompt_depth else None
        self.crops = MaskedCrops(
            "region",
            threshold=settings.mask_threshold,
            batch=settings.crops_at_a_time,
            prompts=prompts,
            asked=settings.branch != "segment",
        ).requires_grad_(requires_grad=False)

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for AdamW; norms and embeddings are exempt from decay, the backbone has a rate of its own."""
        return group_by_module(
            self, optim, slow=self.proposer.backbone, slow_scale=self.settings.backbone_lr_scale
        )

    def encode(self, images: Tensor, content: tuple[int, int] | None = None) -> OVSegState:
        """Find regions, and unless the ``segment`` branch alone is asked, let CLIP look at each inside the content."""
        proposals = self.proposer(images)
        return self.look(images, proposals, content)

    def encode_masks(
        self, images: Tensor, masks: Tensor, content: tuple[int, int] | None = None
    ) -> OVSegState:
        """Each with the embedding of the proposal that it overlaps most; CLIP looks at the given region itself."""
        return self.look(images, with_given_masks(self.proposer(images), masks), content)

    @torch.no_grad()
    def look(
        self, images: Tensor, proposals: Proposals, content: tuple[int, int] | None = None
    ) -> OVSegState:
        """The state for regions that are known already; arguments as of :meth:`encode`."""
        padded = (images.shape[-2], images.shape[-1])
        if self.settings.branch == "segment":
            return OVSegState(proposals, None, padded)
        scene = Scene(self.tower, images, content, self.normalization)
        crops = self.crops(scene.tower, scene.pictures, proposals, scene.content)
        return OVSegState(proposals, crops, padded)

    def classify(self, state: OVSegState, words: ClassWords) -> ClassifiedMasks:
        """Scores of every region for all classes; those of the ensemble are no probabilities."""
        return self._drawn(self.named(state, words), state)

    def named(self, state: OVSegState, words: ClassWords) -> ClassifiedMasks:
        """As :meth:`classify`, of all regions, drawn or not."""
        text = mean_vectors(words.text, words.class_ids, words.classes)
        segment = self.classifier(state.proposals.embeddings, text).log_softmax(-1)
        nothing, segment = segment[..., -1].exp(), segment[..., :-1]
        masks = state.proposals.masks
        if state.crops is None:
            return ClassifiedMasks(masks, segment.exp(), nothing)
        spoken = text
        if words.crop_text is not None:
            spoken = mean_vectors(words.crop_text, words.class_ids, words.classes)
        # Among the classes alone: CLIP is not asked whether a region is nothing.
        clip = self.classifier.compare(state.crops.vectors, spoken)[..., :-1].log_softmax(-1)
        visible = state.crops.visible[..., None]
        if self.settings.branch == "clip":
            return ClassifiedMasks(masks, clip.exp() * visible, nothing)
        instead = torch.zeros_like(segment) if self.settings.not_shown == "one" else segment
        scores = geometric_mean(segment, clip.where(visible, instead), self.settings.clip_weight)
        return ClassifiedMasks(masks, scores, nothing)

    def _drawn(self, found: ClassifiedMasks, state: OVSegState) -> ClassifiedMasks:
        """The regions that are drawn: all as they are, or each class's best with a hard mask on every pixel."""
        if self.settings.drawn == "all":
            return found
        best = best_region_of_each_class(found.scores)
        masks = torch.nn.functional.interpolate(
            found.masks, size=state.padded, mode="bilinear", align_corners=False
        )
        hard = torch.where(masks.sigmoid() > self.settings.mask_threshold, CERTAIN, -CERTAIN)
        return ClassifiedMasks(hard, found.scores * best[..., None], found.nothing)

    def forward(self, images: Tensor, text: Tensor) -> SegmentOutput:
        """Normalised images ``(B, 3, H, W)`` and unit text ``(K, E)`` to what the loss reads, of every layer."""
        proposals = self.proposer(images, every_layer=True)
        return SegmentOutput(
            tuple(
                SegmentPrediction(self.classifier(layer.embeddings, text), layer.masks)
                for layer in (*proposals.earlier, proposals)
            )
        )
