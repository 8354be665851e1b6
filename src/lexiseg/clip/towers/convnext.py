"""CLIP's image tower as a ConvNeXt: no tokens and no attention, one map that halves its side from stage to stage.

The weights are those of open_clip's ``convnext_*`` models, whose trunk is timm's ConvNeXt (Liu et al., CVPR 2022).
``transformers`` holds them: its ConvNeXt has the same layers under other names.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.errors import ConfigError
from lexiseg.ops.grid import map_to_tokens
from lexiseg.ops.mask_pooling import mean_in_regions
from lexiseg.types import Color, PositionMode

if TYPE_CHECKING:
    from transformers import CLIPTextConfig, ConvNextConfig


class ConvNextClip(nn.Module):
    """Weights of a CLIP with a ConvNeXt image tower, under the names that transformers' own CLIP gives to its parts.

    Args:
        vision: Sizes of the trunk.
        text: Sizes of the text tower, and of the joint space.
        head_width: Hidden channels of the projection where it is an MLP (``convnext_large_d``); None where it
            is one matrix (``convnext_base_w``).
        image_size: Side in pixels of the square images that it was trained on; the weights do not say.
    """

    model_type = "convnext_clip"

    def __init__(
        self, vision: "ConvNextConfig", text: "CLIPTextConfig", *, head_width: int | None, image_size: int
    ) -> None:
        super().__init__()
        self.image_size = image_size
        from transformers import CLIPConfig, CLIPTextModelWithProjection, ConvNextModel
        from transformers.models.convnext.modeling_convnext import ConvNextLayerNorm

        self.config = CLIPConfig(text_config=text.to_dict(), projection_dim=text.projection_dim)
        with_projection = CLIPTextModelWithProjection(text)
        self.text_model = with_projection.text_model
        self.text_projection = with_projection.text_projection
        self.vision_model = ConvNextModel(vision)
        width = len(self.vision_model.layernorm.weight)
        self.visual_projection = _head(width, head_width, self.text_projection.out_features)
        self.logit_scale = nn.Parameter(torch.zeros(()))
        for module in self.vision_model.modules():
            if isinstance(module, ConvNextLayerNorm | nn.LayerNorm):
                module.eps = vision.layer_norm_eps  # transformers writes 1e-6 into all but the last


class ConvNextTower(nn.Module):
    """A frozen CLIP ConvNeXt.

    Where a ViT has a class token, this tower averages its last map over the image, then norms and projects. Norm
    and average do not commute, so the mean of the dense features is near the image embedding but not equal.

    Attributes:
        width: Channels D of the last stage.
        stage_widths, logit_scale, empty_regions: See :class:`~lexiseg.types.StageTower`. A region without a position is
            the zero vector before norm and projection.
        embed_dim: Channels E of the joint image-text space.
        patch_size: Pixels per side that one position of the last map stands for.
        image_size: Native square input side in pixels.
        others: See :class:`~lexiseg.types.ImageTower`.
    """

    kind = "ConvNeXt"
    prefix_tokens = 0
    has_class_token = False
    has_blocks = False
    takes_prompts = False
    aligned_patches = False
    own_reading: str | None = None
    position_mode: PositionMode | None = None
    empty_regions = True

    logit_scale: Tensor

    def __init__(self, model: ConvNextClip, *, colors: tuple[Color, Color] = (CLIP_MEAN, CLIP_STD)) -> None:
        super().__init__()
        self.mean, self.std = colors
        config: Any = model.vision_model.config
        self.stage_widths: tuple[int, ...] = tuple(config.hidden_sizes)
        self.width: int = self.stage_widths[-1]
        self.embed_dim: int = model.text_projection.out_features
        self.patch_size: int = config.patch_size * 2 ** (len(config.depths) - 1)
        self.image_size = model.image_size
        self.vision_model = model.vision_model
        self.visual_projection = model.visual_projection
        self.register_buffer("logit_scale", model.logit_scale.detach().clone(), persistent=False)
        self.requires_grad_(requires_grad=False)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Size ``(h, w)`` of the last map of ``(B, 3, H, W)`` images.

        Raises:
            ConfigError: H or W is not a multiple of the patch size: the tower would leave out the remainder.
        """
        height, width = images.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch or not height or not width:
            needed = (-(-height // patch) * patch, -(-width // patch) * patch)
            raise ConfigError(
                f"image of {height}×{width} pixels is no multiple of the ConvNeXt's stride {patch}; "
                f"pad it to {needed[0]}×{needed[1]}"
            )
        return height // patch, width // patch

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Positions ``(B, h*w, D)`` of the map after every stage, each on a grid and with a width of its own."""
        yield from map(map_to_tokens, self._stages(images))

    def stage_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map ``(B, C, h, w)`` after every stage of normalised ``(B, 3, H, W)``, without the final norm."""
        return tuple(self._stages(images))

    def feature_map(self, images: Tensor) -> Tensor:
        """Last map ``(B, D, H // patch, W // patch)`` of normalised ``(B, 3, H, W)``, before norm and projection."""
        *_, last = self._stages(images)
        return last

    def _stages(self, images: Tensor) -> Iterator[Tensor]:
        features = self.vision_model.embeddings(images)
        for stage in self.vision_model.encoder.stages:
            features = stage(features)
            yield features

    def pool_regions(self, features: Tensor, regions: Tensor) -> Tensor:
        """Mean of ``(B, D, h, w)`` over each of ``(B, N, h, w)`` regions, normed and projected: ``(B, N, E)``."""
        return self.project(mean_in_regions(features, regions))

    def project(self, features: Tensor) -> Tensor:
        """Final layer norm and projection: ``(…, D)`` to ``(…, E)``, not normalised."""
        return self.visual_projection(self.vision_model.layernorm(features))

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads: there are none."""
        return ()

    def dense_features(self, images: Tensor) -> Tensor:
        """Text-aligned features ``(B, E, h, w)``, not normalised: every position on its own, without the average.

        As PixelCLIP reads its ConvNeXt, and MaskCLIP a ResNet.

        Raises:
            ConfigError: See :meth:`grid`.
        """
        self.grid(images)
        return self.project(self.feature_map(images).movedim(1, -1)).movedim(-1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Image embeddings ``(B, E)``, not normalised, of normalised ``(B, 3, H, W)`` of a patch or more."""
        return self.project(self.feature_map(images).mean(dim=(2, 3)))


def _head(width: int, hidden: int | None, embed_dim: int) -> nn.Sequential:
    """open_clip's projection: one matrix, or an MLP whose second matrix has no bias either."""
    if hidden is None:
        return nn.Sequential(OrderedDict(proj=nn.Linear(width, embed_dim, bias=False)))
    layers = OrderedDict(
        fc1=nn.Linear(width, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, embed_dim, bias=False)
    )
    return nn.Sequential(OrderedDict(mlp=nn.Sequential(layers)))
