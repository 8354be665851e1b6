"""OpenSeg's proposals: learned queries look at one merged map, and each gives a mask of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.models.image_pyramids import ResNetPyramid
from lexiseg.ops.sine_positions import sine_positions
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import Color, Proposals

GREY: Color = (128 / 255, 128 / 255, 128 / 255)
"""Mean and deviation of its images, as OpenSeg's demonstration prepares them."""

_STAGES = 4


@dataclass(frozen=True)
class CrossAttentionSettings:
    """Sizes of the proposer; defaults stand on a ResNet-101. Beyond the queries they are ours: no code was released.

    Attributes:
        stem: Channels of the ResNet's first convolution.
        stages: Channels of its stages.
        depths: Blocks of its stages.
        features: Channels of the merged map, of queries and of the map that masks are read from; a multiple of 4.
        queries: Regions that it proposes, N.
        query_layers: Layers of the cross-attention.
        query_heads: Its heads.
        query_feedforward: Hidden channels of its feed-forward networks.
        query_dropout: In it.
    """

    stem: int = within(64, at_least=1)
    stages: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 23, 3)
    features: int = within(256, at_least=4)
    queries: int = within(128, at_least=1)
    query_layers: int = within(3, at_least=1)
    query_heads: int = within(8, at_least=1)
    query_feedforward: int = within(1024, at_least=1)
    query_dropout: float = within(0.0, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings."""
        require_plain_settings(self, "model")
        for key in ("stages", "depths"):
            given = getattr(self, key)
            whole = isinstance(given, Sequence) and all(type(n) is int and n >= 1 for n in given)
            if not whole or len(given) != _STAGES:
                raise ConfigError(
                    f"model.{key}: expected {_STAGES} whole numbers of at least 1, got {given!r}"
                )
            object.__setattr__(self, key, tuple(given))
        for divisor in (4, self.query_heads):  # sines and cosines of two axes; heads
            if self.features % divisor:
                raise ConfigError(f"model.features: expected a multiple of {divisor}, got {self.features}")


class MergedPyramid(nn.Module):
    """A feature pyramid (Lin et al., 2017) whose levels come to the finest one's size and are summed.

    Args:
        channels: Of the encoder's maps, fine to coarse.
        width: Of every level.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(inputs, width, kernel_size=1) for inputs in channels)
        self.outputs = nn.ModuleList(nn.Conv2d(width, width, kernel_size=3, padding=1) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps from fine to coarse to one ``(B, width, h, w)`` of the finest's size."""
        levels = [lateral(level) for lateral, level in zip(self.laterals, maps, strict=True)]
        size = levels[0].shape[-2:]
        above: Tensor | None = None
        merged = torch.zeros_like(levels[0])
        for level, output in zip(reversed(levels), reversed(self.outputs), strict=True):
            if above is not None:
                level = level + F.interpolate(above, size=level.shape[-2:], mode="nearest")
            above = level
            merged = merged + F.interpolate(output(level), size=size, mode="bilinear", align_corners=False)
        return merged


class CrossAttentionProposer(nn.Module):
    """Queries after a transformer decoder over the merged map, and their products with it as masks (OpenSeg, sec. 3.1).

    ``mask_i = <q_i, F_s + positions>``: N sigmoids that do not compete, and no "no object".

    Args:
        settings: Sizes.
    """

    def __init__(self, settings: CrossAttentionSettings) -> None:
        super().__init__()
        width = settings.features
        self.finest = settings.stages[0]
        self.encoder = ResNetPyramid(stem=settings.stem, stages=settings.stages, depths=settings.depths)
        self.pyramid = MergedPyramid(settings.stages, width)
        self.mask_features = convolutional_head(width, width)
        self.queries = nn.Parameter(torch.randn(settings.queries, width))
        layer = nn.TransformerDecoderLayer(
            width,
            settings.query_heads,
            settings.query_feedforward,
            settings.query_dropout,
            batch_first=True,
        )
        self.attention = nn.TransformerDecoder(layer, settings.query_layers, norm=nn.LayerNorm(width))

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image at stride 4: the pyramid's levels, three stages' maps, the masks."""
        queries, channels = len(self.queries), self.queries.shape[1]
        return 4 * (6 * channels + 3 * self.finest + queries) * (height * width // 16)

    def forward(self, images: Tensor) -> tuple[Proposals, Tensor]:
        """Propose regions.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of 32.

        Returns:
            Masks ``(B, N, H/4, W/4)`` with the queries ``(B, N, features)`` and the map that masks were read from; and the
            merged map ``(B, features, H/4, W/4)``, for whoever names the regions.
        """
        merged = self.pyramid(self.encoder(images))
        pixels = self.mask_features(merged)
        pixels = pixels + sine_positions(pixels)
        start = self.queries.expand(images.shape[0], -1, -1)  # len would be a constant to a tracer
        queries = self.attention(start, pixels.flatten(2).transpose(1, 2))
        masks = torch.einsum("bnd,bdhw->bnhw", queries, pixels)
        return Proposals(masks, queries, pixels), merged


def convolutional_head(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution, a rectifier and a 1x1 convolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel_size=1),
    )
