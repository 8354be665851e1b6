"""The proposers of the published models, and their settings, as parts that any region classifier may follow."""

import math

from torch import nn

from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.models.early_blocks import EarlyBlocks, pixels_of_patch, trained_early_blocks
from lexiseg.models.patch_stages import CONVOLUTIONAL, PatchStages, clip_stride, is_convolutional
from lexiseg.models.proposers.cross_attention import GREY, CrossAttentionProposer, CrossAttentionSettings
from lexiseg.models.proposers.mask2former import Mask2Former, Mask2FormerSettings
from lexiseg.models.proposers.maskformer import MaskFormer, MaskFormerSettings
from lexiseg.models.proposers.side_adapter import SideAdapter
from lexiseg.models.proposers.side_adapter_settings import SideAdapterOnClipSettings
from lexiseg.models.region_model import require_tower
from lexiseg.models.region_parts import Found, Scene
from lexiseg.types import Color, ImageTower

_STRIDE = 32
"""Of the coarsest map of a backbone; and what SAN's release pads images to."""


class TrainedProposer(nn.Module):
    """What the proposers here have in common: regions with embeddings, read off a pixel map.

    Attributes:
        others: See :class:`~lexiseg.models.region_parts.Proposer`.
    """

    colors: tuple[Color, Color] | None = None
    stride: int = _STRIDE
    embed_dim: int
    pixel_dim: int
    regions: int
    slow_scale = 1.0

    @property
    def early(self) -> EarlyBlocks | None:
        """None: it does not run CLIP's blocks."""
        return None

    @property
    def slow(self) -> nn.Module | None:
        """None: all of it learns at one rate."""
        return None


class MaskFormerProposer(TrainedProposer):
    """MaskFormer on a backbone of its own (ZegFormer, OVSeg); CLIP's image tower is not asked."""

    colors = (IMAGENET_MEAN, IMAGENET_STD)

    def __init__(self, tower: ImageTower, settings: MaskFormerSettings) -> None:
        del tower
        super().__init__()
        self.network = MaskFormer(settings)
        self.embed_dim, self.pixel_dim = settings.query_width, settings.mask_width
        self.regions = settings.queries
        self.slow_scale = settings.backbone_lr_scale

    @property
    def slow(self) -> nn.Module | None:
        """The backbone."""
        return self.network.backbone

    def forward(self, scene: Scene, *, every_layer: bool = False) -> Found:
        """Queries are the embeddings."""
        proposals = self.network(scene.images, every_layer=every_layer)
        return Found(proposals, proposals.pixels)


class Mask2FormerProposer(TrainedProposer):
    """Mask2Former on CLIP's own maps (FC-CLIP), those of a ViT by a small trained pyramid."""

    def __init__(self, tower: ImageTower, settings: Mask2FormerSettings) -> None:
        require_tower(tower, model="mask2former", kinds=(*CONVOLUTIONAL, "ViT"))
        super().__init__()
        self.stride = clip_stride(tower)
        self.stages = None if is_convolutional(tower) else PatchStages(tower.embed_dim)
        widths = tower.stage_widths if self.stages is None else self.stages.widths  # type: ignore[attr-defined]
        self.network = Mask2Former(widths, settings)
        self.embed_dim = self.pixel_dim = settings.width
        self.regions = settings.queries

    def forward(self, scene: Scene, *, every_layer: bool = False) -> Found:
        """Queries are the embeddings; those of earlier layers come along in any case."""
        del every_layer
        proposals = self.network(scene.stage_maps if self.stages is None else self.stages(scene.last_map))
        return Found(proposals, proposals.pixels)


class CrossAttention(TrainedProposer):
    """OpenSeg's queries on a ResNet of their own; CLIP's image tower is not asked."""

    colors = (GREY, GREY)

    def __init__(self, tower: ImageTower, settings: CrossAttentionSettings) -> None:
        del tower
        super().__init__()
        self.network = CrossAttentionProposer(settings)
        self.embed_dim = self.pixel_dim = settings.features
        self.regions = settings.queries

    def forward(self, scene: Scene, *, every_layer: bool = False) -> Found:
        """One layer; the features are the merged map, from which the pixel map is made."""
        del every_layer
        proposals, merged = self.network(scene.images)
        return Found(proposals, merged)


class SideAdapterProposer(TrainedProposer):
    """SAN's side adapter, with CLIP's first blocks on a smaller image and a trained copy of CLIP's positions."""

    def __init__(self, tower: ImageTower, settings: SideAdapterOnClipSettings) -> None:
        super().__init__()
        self.blocks = trained_early_blocks(
            tower,
            model="side_adapter",
            last=settings.early_blocks,
            kept=frozenset(block for block, _ in settings.fusion),
            resolution=settings.resolution,
            group="model.proposer",
        )
        self.network = SideAdapter(tower.width, settings)  # type: ignore[attr-defined]
        # Of an odd number of patches half the image holds no whole number of CLIP's: what was dropped would shift its tokens.
        whole = pixels_of_patch(tower.patch_size, settings.resolution) or _STRIDE
        self.stride = math.lcm(settings.patch, whole)
        self.embed_dim, self.pixel_dim = settings.decoder_width, settings.width
        self.regions = settings.queries

    @property
    def early(self) -> EarlyBlocks | None:
        """Its own."""
        return self.blocks

    def forward(self, scene: Scene, *, every_layer: bool = False) -> Found:
        """Decoded queries are the embeddings, the side adapter's patches the pixel map."""
        early = self.blocks(scene.tower, scene.pictures)
        proposals = self.network(scene.images, early, last_only=not every_layer)
        return Found(proposals, proposals.pixels, early)
