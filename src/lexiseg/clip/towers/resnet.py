"""CLIP's image tower as OpenAI's modified ResNet: three stem convolutions, and attention instead of an average at the end.

``transformers`` has no such tower, so its layers stand here, under OpenAI's names (Radford et al., ICML 2021, sec. 2.4).
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.errors import ConfigError
from lexiseg.ops.attention import attend
from lexiseg.ops.grid import map_to_tokens, resize_position_embedding
from lexiseg.types import Color, PositionMode

if TYPE_CHECKING:
    from transformers import CLIPTextConfig

EXPANSION = 4
"""A block gives so many times the channels of its 3×3 convolution."""

STRIDE = 32
"""Of the last map: two each of the stem's first convolution, its average and the last three stages."""

_EPS = 1e-5
"""Of every batch norm."""


class FixedBatchNorm(nn.Module):
    """Batch norm with the statistics of its training: a tower is never trained as a batch.

    Args:
        width: Channels.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, h, w)`` to the same."""
        return F.batch_norm(
            features, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=_EPS
        )


class Bottleneck(nn.Module):
    """ResNet's block of three convolutions, whose stride is an average before the last one and before the shortcut.

    Args:
        inputs: Channels that enter.
        width: Channels of the 3×3 convolution; four times as many leave.
        stride: 1 or 2.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), FixedBatchNorm(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), FixedBatchNorm(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), FixedBatchNorm(outputs)
        self.stride = stride
        self.downsample: nn.Sequential | None = None
        if stride > 1 or inputs != outputs:
            parts = OrderedDict(
                [("0", nn.Conv2d(inputs, outputs, 1, bias=False)), ("1", FixedBatchNorm(outputs))]
            )
            self.downsample = nn.Sequential(parts)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` to ``(B, 4 * width, h / stride, w / stride)``."""
        inner = self.bn1(self.conv1(features)).relu()
        inner = self._halved(self.bn2(self.conv2(inner)).relu())
        inner = self.bn3(self.conv3(inner))
        if self.downsample is not None:
            features = self.downsample(self._halved(features))
        return (inner + features).relu()

    def _halved(self, features: Tensor) -> Tensor:
        return F.avg_pool2d(features, self.stride) if self.stride > 1 else features


class AttentionPool(nn.Module):
    """One attention of the mean over all positions, read as one vector.

    Args:
        side: Rows and columns of the map at the tower's native size.
        width: Channels D of the map.
        heads: Attention heads.
        embed_dim: Channels E of the joint space.
    """

    def __init__(self, side: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(side**2 + 1, width))
        self.k_proj, self.q_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, embed_dim)
        self.heads = heads

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, D, h, w)`` to image embeddings ``(B, E)``; position embeddings are resized bilinearly to other grids."""
        mean, places = self._tokens(features)
        tokens = torch.cat([mean, places], dim=1)
        return self._pooled(mean, tokens, None)[:, 0]

    def regions(self, features: Tensor, regions: Tensor) -> Tensor:
        """The same query over parts of the map: ``(B, N, E)`` of ``(B, N, h, w)`` bool (FC-CLIP's release).

        The query is the mean of the whole map, whatever the region; it is no key. A region without a position sees all.
        """
        mean, places = self._tokens(features)
        visible = regions.flatten(2)
        visible = visible | ~visible.any(dim=-1, keepdim=True)  # (B, N, h * w)
        bias = torch.zeros_like(visible, dtype=places.dtype).masked_fill_(~visible, -torch.inf)
        return self._pooled(mean.expand(-1, visible.shape[1], -1), places, bias[:, None])

    def each(self, features: Tensor) -> Tensor:
        """Every position on its own, without attention: ``(B, D, h, w)`` to ``(B, E, h, w)`` (MaskCLIP, sec. 3.3)."""
        return self.c_proj(self.v_proj(features.movedim(1, -1))).movedim(-1, 1)

    def _tokens(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over all positions ``(B, 1, D)`` and the positions ``(B, h * w, D)``, with their embeddings."""
        grid = (features.shape[-2], features.shape[-1])
        places = map_to_tokens(features)
        positions = resize_position_embedding(self.positional_embedding, grid, "bilinear")
        return places.mean(dim=1, keepdim=True) + positions[:1], places + positions[1:]

    def _pooled(self, queries: Tensor, tokens: Tensor, bias: Tensor | None) -> Tensor:
        query, key, value = (
            projection(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, given in ((self.q_proj, queries), (self.k_proj, tokens), (self.v_proj, tokens))
        )
        return self.c_proj(attend(query, key, value, bias=bias).transpose(1, 2).flatten(2))


class ModifiedResNet(nn.Module):
    """The convolutions and the pooling.

    Args:
        width: Channels W of the stem; the stages have 4, 8, 16 and 32 W.
        depths: Blocks of each stage.
        side: Rows and columns of the last map at the native size.
        heads: Of the pooling.
        embed_dim: Channels E of the joint space.
    """

    def __init__(self, width: int, depths: Sequence[int], *, side: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False), FixedBatchNorm(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1, bias=False), FixedBatchNorm(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, padding=1, bias=False), FixedBatchNorm(width)
        inputs = width
        for stage, depth in enumerate(depths):
            inner = width * 2**stage
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(inputs, inner, 2 if stage and not block else 1))
                inputs = EXPANSION * inner
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.depths = tuple(depths)
        self.attnpool = AttentionPool(side, inputs, heads, embed_dim)

    def stages(self, images: Tensor) -> Iterator[Tensor]:
        """Map after each stage of normalised ``(B, 3, H, W)``, at strides 4, 8, 16 and 32."""
        features = images
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            features = norm(conv(features)).relu()
        features = F.avg_pool2d(features, 2)
        for stage in range(len(self.depths)):
            features = self.get_submodule(f"layer{stage + 1}")(features)
            yield features


class ResNetClip(nn.Module):
    """Weights of a CLIP with a ResNet: the image tower under OpenAI's names, the text tower under transformers'.

    Args:
        visual: Image tower.
        text: Sizes of the text tower, and of the joint space.
    """

    model_type = "resnet_clip"

    def __init__(self, visual: ModifiedResNet, text: "CLIPTextConfig") -> None:
        super().__init__()
        from transformers import CLIPConfig, CLIPTextModelWithProjection

        self.config = CLIPConfig(text_config=text.to_dict(), projection_dim=text.projection_dim)
        with_projection = CLIPTextModelWithProjection(text)
        self.text_model = with_projection.text_model
        self.text_projection = with_projection.text_projection
        self.visual = visual
        self.logit_scale = nn.Parameter(torch.zeros(()))


class ResNetTower(nn.Module):
    """A frozen CLIP ResNet.

    Attributes:
        width: Channels D of the last stage.
        embed_dim: Channels E of the joint image-text space.
        patch_size: Pixels per side that one position of the last map stands for.
        image_size: Native square input side in pixels.
        others: See :class:`~lexiseg.types.StageTower`.
    """

    kind = "ResNet"
    prefix_tokens = 0
    has_class_token = False
    has_blocks = False
    takes_prompts = False
    aligned_patches = False
    own_reading: str | None = None
    position_mode: PositionMode | None = None
    patch_size = STRIDE
    empty_regions = False

    logit_scale: Tensor

    def __init__(self, model: ResNetClip, *, colors: tuple[Color, Color] = (CLIP_MEAN, CLIP_STD)) -> None:
        super().__init__()
        self.mean, self.std = colors
        self.visual = model.visual
        pool = model.visual.attnpool
        self.width: int = pool.c_proj.in_features
        self.embed_dim: int = pool.c_proj.out_features
        count = len(model.visual.depths)
        self.stage_widths: tuple[int, ...] = tuple(self.width // 2 ** (count - 1 - i) for i in range(count))
        self.image_size = round((len(pool.positional_embedding) - 1) ** 0.5) * STRIDE
        self.register_buffer("logit_scale", model.logit_scale.detach().clone(), persistent=False)
        self.requires_grad_(requires_grad=False)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Size ``(h, w)`` of the last map of ``(B, 3, H, W)`` images.

        Raises:
            ConfigError: H or W is not a multiple of 32: the tower would leave out the remainder.
        """
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE or not height or not width:
            needed = (-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE)
            raise ConfigError(
                f"image of {height}×{width} pixels is no multiple of the ResNet's stride {STRIDE}; "
                f"pad it to {needed[0]}×{needed[1]}"
            )
        return height // STRIDE, width // STRIDE

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Positions ``(B, h*w, D)`` of the map after every stage, each on a grid and with a width of its own."""
        yield from map(map_to_tokens, self.visual.stages(images))

    def stage_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map ``(B, C, h, w)`` after every stage of normalised ``(B, 3, H, W)``."""
        return tuple(self.visual.stages(images))

    def pool_regions(self, features: Tensor, regions: Tensor) -> Tensor:
        """The attention pool over ``(B, N, h, w)`` regions of the last map ``(B, D, h, w)``: ``(B, N, E)``."""
        return self.visual.attnpool.regions(features, regions)

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads: queries, keys and positions."""
        return tuple(f"visual.attnpool.{name}" for name in ("q_proj", "k_proj", "positional_embedding"))

    def dense_features(self, images: Tensor) -> Tensor:
        """Text-aligned features ``(B, E, h, w)``, not normalised: each position's own value (MaskCLIP, sec. 3.3).

        Raises:
            ConfigError: See :meth:`grid`.
        """
        self.grid(images)
        *_, last = self.visual.stages(images)
        return self.visual.attnpool.each(last)

    def forward(self, images: Tensor) -> Tensor:
        """Image embeddings ``(B, E)``, not normalised, of normalised ``(B, 3, H, W)`` of a patch or more."""
        *_, last = self.visual.stages(images)
        return self.visual.attnpool(last)
