"""The region classifiers of the published models, and their settings, as parts that may follow any proposer that fits."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.models.early_blocks import pixels_of_patch, trained_early_blocks
from lexiseg.models.patch_stages import CONVOLUTIONAL, clip_stride, region_pooling
from lexiseg.models.proposers.cross_attention import convolutional_head
from lexiseg.models.region_classifiers.mask_pooling import MaskPooling
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from lexiseg.models.region_classifiers.masked_crops import MaskedCrops
from lexiseg.models.region_classifiers.pooled_queries import PooledQueries
from lexiseg.models.region_classifiers.segment_embedding import Background, SegmentEmbedding
from lexiseg.models.region_classifiers.shadow_tokens import ShadowTokens
from lexiseg.models.region_classifiers.soft_pooling import SoftPooling
from lexiseg.models.region_parts import Embedded, Found, Proposer, Scene
from lexiseg.ops.class_vectors import mean_vectors
from lexiseg.ops.region_crops import CropStyle
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import ClassWords, ImageTower, Proposals

_OF_EMBEDDINGS = "mask2former, maskformer, cross_attention or side_adapter"
_OF_MASKS = "masked_crops, mask_pooling, soft_pooling or shadow_tokens"
"""What messages offer: proposers that give embeddings, and classifiers that need none."""

_NO_PROGRAM_OF_CROPS = (
    "classifier 'masked_crops' cuts regions out one by one, which no exported program holds; take another one, or export "
    "the model --to folder"
)


class _Plain:
    """Settings of plain values, checked when they are made."""

    def __post_init__(self) -> None:
        require_plain_settings(self, "model")


@dataclass(frozen=True)
class SegmentEmbeddingSettings(_Plain):
    """Of :class:`~lexiseg.models.region_classifiers.segment_embedding.SegmentEmbedding`; defaults are ZegFormer's.

    Attributes:
        hidden: Channels between the two layers of the projection; 0 for a single one.
        background: Length of the vector of "nothing": ``free`` (ZegFormer), ``unit`` (OVSeg).
    """

    hidden: int = within(0, at_least=0)
    background: Background = "free"


@dataclass(frozen=True)
class PooledQueriesSettings(_Plain):
    """There is nothing to choose: its widths are the proposer's."""


@dataclass(frozen=True)
class MaskedCropsSettings(_Plain):
    """How CLIP is shown a region; defaults are ZegFormer's.

    Attributes:
        style: See :data:`~lexiseg.ops.region_crops.CropStyle`.
        threshold: A pixel belongs to a region where the sigmoid of its mask is above this.
        crops_at_a_time: How many CLIP reads in one pass.
        prompt_depth: How often OVSeg's mask prompt tokens are put in, with style ``region``; 0 for none. They are tuned
            beforehand and come with the weights: here they do not train.
        scale: What cosines are multiplied by.
    """

    style: CropStyle = "cropmask"
    threshold: float = within(0.5, at_least=0, below=1)
    crops_at_a_time: int = within(32, at_least=1)
    prompt_depth: int = within(0, at_least=0)
    scale: float = within(100.0, above=0)


@dataclass(frozen=True)
class MaskPoolingSettings(_Plain):
    """Of FC-CLIP's frozen classifier.

    Attributes:
        scale: Of a ViT's cosines with words; a convolutional CLIP brings its own.
    """

    scale: float = within(100.0, above=0, at_most=100)


@dataclass(frozen=True)
class SoftPoolingSettings(_Plain):
    """Of OpenSeg's classifier.

    Attributes:
        temperature: What cosines are divided by.
    """

    temperature: float = within(0.01, above=0)


@dataclass(frozen=True)
class ShadowTokensSettings(_Plain):
    """Of SAN's classifier with CLIP ViT-B/16.

    Attributes:
        hidden: Channels inside the perceptron that makes attention biases of the pixel map; unused without one.
        early_blocks: CLIP blocks that run before the shadow tokens join; with a side adapter, those are its own.
        resolution: Side of CLIP's image as a share of the given one's; likewise.
        scale: Of cosines with words.
    """

    hidden: int = within(256, at_least=1)
    early_blocks: int = within(9, at_least=1)
    resolution: float = within(0.5, above=0, at_most=1)
    scale: float = within(100.0, above=0)


class _Classifier(nn.Module):
    """What the classifiers here have in common; see :class:`~lexiseg.models.region_parts.RegionClassifier`."""

    stride = 1
    names_nothing = False
    matches = False
    asks_proposer = False
    every_layer = True


class BySegmentEmbedding(_Classifier):
    """A region's own embedding against words (ZegFormer-seg; OVSeg). A class with several words has their mean."""

    names_nothing = matches = asks_proposer = True

    def __init__(self, tower: ImageTower, settings: SegmentEmbeddingSettings, proposer: Proposer) -> None:
        super().__init__()
        width = _embedded("segment_embedding", proposer)
        self.network = SegmentEmbedding(
            width, tower.embed_dim, hidden=settings.hidden, background=settings.background
        )

    def embed(self, scene: Scene, found: Found, proposals: Proposals) -> Embedded:
        """The projected embeddings."""
        return Embedded(self.network.projection(proposals.embeddings))

    def logits(self, vectors: Tensor, words: ClassWords) -> Tensor:
        """``(B, N, K + 1)``."""
        return self.network.compare(vectors, mean_vectors(words.text, words.class_ids, words.classes))


class ByPooledQueries(_Classifier):
    """A region's embedding plus the pixel map under its mask (FC-CLIP's trained classifier); the best word of a class counts.

    Where a proposer's pixel map has other channels than its embeddings, a trained 1x1 convolution brings it to theirs.
    """

    names_nothing = matches = asks_proposer = True

    def __init__(self, tower: ImageTower, settings: PooledQueriesSettings, proposer: Proposer) -> None:
        super().__init__()
        width = _embedded("pooled_queries", proposer)
        pixels = proposer.pixel_dim
        if pixels is None:
            raise ConfigError(
                "classifier 'pooled_queries' pools the map that masks are read from, and this proposer gives none; take "
                f"segment_embedding, {_OF_MASKS}"
            )
        self.bridge = nn.Conv2d(pixels, width, kernel_size=1) if pixels != width else None
        self.network = PooledQueries(width, tower.embed_dim)

    def embed(self, scene: Scene, found: Found, proposals: Proposals) -> Embedded:
        """Queries and pooled pixels in the text's space."""
        if self.bridge is not None and proposals.pixels is not None:
            proposals = Proposals(proposals.masks, proposals.embeddings, self.bridge(proposals.pixels))
        return Embedded(self.network.embed(proposals))

    def logits(self, vectors: Tensor, words: ClassWords) -> Tensor:
        """``(B, N, K + 1)``."""
        return self.network.logits(vectors, words)


class ByMaskedCrops(_Classifier):
    """CLIP's look at every region as a picture (ZegFormer-img; OVSeg with mask prompt tokens); nothing trains."""

    every_layer = False

    def __init__(self, tower: ImageTower, settings: MaskedCropsSettings, proposer: Proposer) -> None:
        del proposer
        super().__init__()
        self.scale = settings.scale
        if settings.prompt_depth and (tower.kind != "ViT" or not tower.takes_prompts):
            raise ConfigError(
                f"model.prompt_depth: mask prompt tokens need a CLIP with a ViT that takes prompts, got a {tower.kind}; set 0"
            )
        if settings.prompt_depth and settings.style != "region":
            raise ConfigError(
                f"model.style: mask prompt tokens read crops of style 'region', got '{settings.style}'; set that, or "
                "model.prompt_depth=0"
            )
        prompts = MaskPrompts(tower, settings.prompt_depth) if settings.prompt_depth else None
        self.network = MaskedCrops(
            settings.style,
            threshold=settings.threshold,
            batch=settings.crops_at_a_time,
            prompts=prompts,
            refusal=_NO_PROGRAM_OF_CROPS,
        ).requires_grad_(requires_grad=False)

    @torch.no_grad()
    def embed(self, scene: Scene, found: Found, proposals: Proposals) -> Embedded:
        """CLIP's embedding of each region; one that has no pixel in style ``region`` is not visible."""
        crops = self.network(scene.tower, scene.pictures, proposals, scene.content)
        return Embedded(crops.vectors, crops.visible)

    def logits(self, vectors: Tensor, words: ClassWords) -> Tensor:
        """``(B, N, K)``; words in the templates for crops, where there are any, and the mean of a class's."""
        spoken = words.text if words.crop_text is None else words.crop_text
        text = mean_vectors(spoken, words.class_ids, words.classes)
        return self.scale * F.normalize(vectors, dim=-1) @ text.T


class ByMaskPooling(_Classifier):
    """CLIP's own map pooled under each mask (FC-CLIP's frozen classifier); nothing trains; the best word of a class counts."""

    def __init__(self, tower: ImageTower, settings: MaskPoolingSettings, proposer: Proposer) -> None:
        del proposer
        super().__init__()
        if tower.kind not in (*CONVOLUTIONAL, "ViT"):
            raise ConfigError(
                f"classifier 'mask_pooling' pools the map of a CLIP with a {', '.join(CONVOLUTIONAL)} or ViT, and this one is "
                f"a {tower.kind}; take masked_crops, or such a CLIP"
            )
        self.stride = clip_stride(tower)
        self.pooling = MaskPooling(region_pooling(tower, settings.scale))

    def embed(self, scene: Scene, found: Found, proposals: Proposals) -> Embedded:
        """CLIP's embedding of each region; one that is on no position of its map may not be visible."""
        return Embedded(*self.pooling.embed(proposals, scene.last_map))

    def logits(self, vectors: Tensor, words: ClassWords) -> Tensor:
        """``(B, N, K)``."""
        return self.pooling.logits(vectors, words)


class BySoftPooling(_Classifier):
    """A map averaged under soft masks (OpenSeg); the mean of a class's words counts.

    The map is a trained one of what the proposer gives; of a proposer that gives none, CLIP's own, and then nothing trains.
    """

    def __init__(self, tower: ImageTower, settings: SoftPoolingSettings, proposer: Proposer) -> None:
        super().__init__()
        self.alignment = None
        if proposer.pixel_dim is not None:
            self.alignment = convolutional_head(proposer.pixel_dim, tower.embed_dim)
            self.asks_proposer = True
        else:
            self.stride = clip_stride(tower)
        self.pooling = SoftPooling(settings.temperature)

    def embed(self, scene: Scene, found: Found, proposals: Proposals) -> Embedded:
        """Means of the map."""
        features = scene.patches if self.alignment is None else self.alignment(found.features)
        return Embedded(self.pooling.embed(proposals, features))

    def logits(self, vectors: Tensor, words: ClassWords) -> Tensor:
        """``(B, N, K)``."""
        return self.pooling.logits(vectors, mean_vectors(words.text, words.class_ids, words.classes))


class ByShadowTokens(_Classifier):
    """Copies of CLIP's class token, one a region, in its last blocks (SAN); the best word of a class counts.

    Where the proposer gives embeddings and a pixel map, their products are the attention biases, as SAN's side adapter's; of
    bare masks the mask is the bias. CLIP's first blocks are the side adapter's, or run for this with a trained copy of
    CLIP's positions.
    """

    names_nothing = True

    def __init__(self, tower: ImageTower, settings: ShadowTokensSettings, proposer: Proposer) -> None:
        super().__init__()
        if tower.kind != "ViT" or not tower.takes_prompts:
            raise ConfigError(
                "classifier 'shadow_tokens' runs class tokens through the blocks of a CLIP ViT with one class token, and this "
                f"CLIP is a {tower.kind}; take mask_pooling, masked_crops or soft_pooling, or such a CLIP"
            )
        early = proposer.early
        self.blocks = None
        if early is None:
            self.blocks = early = trained_early_blocks(
                tower,
                model="shadow_tokens",
                last=settings.early_blocks,
                kept=frozenset(),
                resolution=settings.resolution,
                group="model.classifier",
            )
            self.stride = _whole_patch(tower.patch_size, settings.resolution)
        self.asks_proposer = self.blocks is None
        self._regions, self._cell = proposer.regions, tower.patch_size / early.resolution
        vit: Any = tower
        self.network = ShadowTokens(
            pixel_width=proposer.pixel_dim or 1,
            region_width=proposer.embed_dim or 1,
            hidden=settings.hidden,
            heads=vit.num_heads,
            embed_dim=tower.embed_dim,
            scale=settings.scale,
        )
        self.bare = proposer.embed_dim is None or proposer.pixel_dim is None
        if self.bare:  # what makes biases of embeddings has nothing to do
            for unused in (self.network.pixels, self.network.bias_scaling):
                unused.requires_grad_(requires_grad=False)

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image, of all regions that may be found."""
        return self.network.attention_bytes(self._regions, int(height / self._cell) * int(width / self._cell))

    def embed(self, scene: Scene, found: Found, proposals: Proposals) -> Embedded:
        """Shadow tokens after CLIP's last block."""
        if self.bare:
            proposals = Proposals(proposals.masks)
        vit: Any = scene.tower
        early: Any = found.early if self.blocks is None else self.blocks(vit, scene.pictures)
        return Embedded(self.network.embed(proposals, early, vit))

    def logits(self, vectors: Tensor, words: ClassWords) -> Tensor:
        """``(B, N, K + 1)``."""
        return self.network.logits(vectors, words)


def _whole_patch(patch: int, resolution: float) -> int:
    """See :func:`~lexiseg.models.early_blocks.pixels_of_patch`; bare masks must fit the patches.

    Raises:
        ConfigError: They are not whole.
    """
    pixels = pixels_of_patch(patch, resolution)
    if pixels is None:
        raise ConfigError(
            f"model.resolution: a patch of {patch} pixels at {resolution:g} of the size is no whole number of the "
            "photograph's, so masks would not lie on the patches; set 0.5, or 1"
        )
    return pixels


def _embedded(name: str, proposer: Proposer) -> int:
    """Channels of a proposer's embeddings; refuses one that gives none."""
    if proposer.embed_dim is None:
        raise ConfigError(
            f"classifier '{name}' compares the embeddings of regions with words, and this proposer gives none; take "
            f"{_OF_MASKS}, or a proposer with embeddings: {_OF_EMBEDDINGS}"
        )
    return proposer.embed_dim
