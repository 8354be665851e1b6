"""ZegFormer: MaskFormer's regions, named by their embedding and by CLIP's look at them (Ding et al., CVPR 2022)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.losses.segment_criterion import MASKFORMER
from lexiseg.models.parameter_groups import group_by_module
from lexiseg.models.proposers.maskformer import MaskFormer, MaskFormerSettings
from lexiseg.models.region_classifiers.masked_crops import CropEmbeddings, MaskedCrops
from lexiseg.models.region_classifiers.segment_embedding import SegmentEmbedding
from lexiseg.models.region_model import RegionModel, with_given_masks
from lexiseg.models.region_parts import Scene
from lexiseg.ops.class_vectors import mean_vectors
from lexiseg.ops.region_scores import fuse_with_seen_mean, geometric_mean
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

Branch = Literal["segment", "image", "fused", "fused_all"]
"""Who names a region: its own ``segment`` embedding ("ZegFormer-seg"), CLIP's look at its ``image`` ("ZegFormer-img"), or
both, ``fused`` with a distinction of seen classes ("ZegFormer") or ``fused_all`` without it."""

ZegFormerCrop = Literal["mask", "crop", "cropmask"]


@dataclass(frozen=True)
class ZegFormerSettings(MaskFormerSettings):
    """Every choice of ZegFormer; defaults are the release's with ResNet-50.

    Training and the ``segment`` branch alone never ask CLIP's image tower.

    Attributes:
        name: What configurations and checkpoints call it.
        branch: See :data:`Branch`.
        crop: How a region is shown to CLIP, see :data:`~lexiseg.ops.region_crops.CropStyle`.
        crops_at_a_time: How many CLIP reads in one pass.
        clip_scale: What CLIP's cosines are multiplied by: its own scale, 100 for those of OpenAI.
        fusion_weight: Lambda of the fusion, 2/3 and not to be configured in the release.
        others: See :class:`~lexiseg.models.proposers.maskformer.MaskFormerSettings`.
    """

    name: str = "zegformer"
    branch: Branch = "fused"
    crop: ZegFormerCrop = "cropmask"
    crops_at_a_time: int = within(32, at_least=1)
    clip_scale: float = within(100.0, above=0)
    fusion_weight: float = within(2 / 3, at_least=0, at_most=1)


@dataclass(frozen=True)
class ZegFormerState:
    """What ZegFormer knows of photographs before any word.

    Attributes:
        proposals: Its regions.
        crops: What CLIP makes of each; None with the ``segment`` branch.
    """

    proposals: Proposals
    crops: CropEmbeddings | None


class ZegFormer(RegionModel):
    """MaskFormer whose class scores are cosines with words.

    The paper's calibration, a penalty on seen classes, is the protocol's ``seen_penalty``. A class with several words has
    the mean of their unit vectors, where the release averages all sentences of all words at once: the same for one template.

    Args:
        tower: Frozen CLIP; not part of the state dict.
        settings: Sizes and branch.
    """

    own_loss = MASKFORMER
    crop_templates = "zegformer_crops"

    def __init__(self, tower: ImageTower, settings: ZegFormerSettings | None = None) -> None:
        settings = settings or ZegFormerSettings()
        super().__init__(tower, settings, colors=(IMAGENET_MEAN, IMAGENET_STD))
        self.proposer = MaskFormer(settings)
        self.classifier = SegmentEmbedding(self.proposer.embed_dim, tower.embed_dim)
        self.crops = MaskedCrops(
            settings.crop, batch=settings.crops_at_a_time, asked=settings.branch != "segment"
        )

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for AdamW; norms and embeddings are exempt from decay, the backbone has a rate of its own."""
        return group_by_module(
            self, optim, slow=self.proposer.backbone, slow_scale=self.settings.backbone_lr_scale
        )

    def encode(self, images: Tensor, content: tuple[int, int] | None = None) -> ZegFormerState:
        """Find regions, and unless the ``segment`` branch alone is asked, let CLIP look at each.

        As in the release, masks and boxes may reach into the padding.
        """
        return self._named(images, self.proposer(images), content)

    def encode_masks(
        self, images: Tensor, masks: Tensor, content: tuple[int, int] | None = None
    ) -> ZegFormerState:
        """Each with the embedding of the proposal that it overlaps most; CLIP looks at the given region itself."""
        return self._named(images, with_given_masks(self.proposer(images), masks), content)

    def _named(self, images: Tensor, proposals: Proposals, content: tuple[int, int] | None) -> ZegFormerState:
        if self.settings.branch == "segment":
            return ZegFormerState(proposals, None)
        return ZegFormerState(proposals, self._look(images, proposals, content))

    @torch.no_grad()
    def _look(self, images: Tensor, proposals: Proposals, content: tuple[int, int] | None) -> CropEmbeddings:
        scene = Scene(self.tower, images, content, self.normalization)
        crops: CropEmbeddings = self.crops(scene.tower, scene.pictures, proposals, scene.content)
        return crops

    def classify(self, state: ZegFormerState, words: ClassWords) -> ClassifiedMasks:
        """Scores of every region for all classes; those of the fusions are no probabilities."""
        text = mean_vectors(words.text, words.class_ids, words.classes)
        segment = self.classifier(state.proposals.embeddings, text)
        masks, alone = state.proposals.masks, segment.log_softmax(-1)
        if state.crops is None:
            return ClassifiedMasks(masks, alone[..., :-1].exp(), alone[..., -1].exp())
        spoken = text
        if words.crop_text is not None:
            spoken = mean_vectors(words.crop_text, words.class_ids, words.classes)
        looks = (
            self.settings.clip_scale * torch.nn.functional.normalize(state.crops.vectors, dim=-1) @ spoken.T
        )
        # "Nothing" is the segment's in both branches: CLIP has no word for it.
        image = torch.cat([looks, segment[..., -1:]], dim=-1).log_softmax(-1)
        if self.settings.branch == "image":
            return ClassifiedMasks(masks, image[..., :-1].exp(), image[..., -1].exp())
        weight = self.settings.fusion_weight
        if self.settings.branch == "fused_all":
            scores = geometric_mean(alone[..., :-1], image[..., :-1], weight)
        else:
            scores = fuse_with_seen_mean(alone[..., :-1], image[..., :-1], words.seen, weight)
        return ClassifiedMasks(masks, scores, alone[..., -1].exp())

    def forward(self, images: Tensor, text: Tensor) -> SegmentOutput:
        """Normalised images ``(B, 3, H, W)`` and unit text ``(K, E)`` to what the loss reads, of every layer."""
        proposals = self.proposer(images, every_layer=True)
        return SegmentOutput(
            tuple(
                SegmentPrediction(self.classifier(layer.embeddings, text), layer.masks)
                for layer in (*proposals.earlier, proposals)
            )
        )
