"""A trained backbone: an image to four maps of strides 4, 8, 16 and 32, by transformers' ResNet or Swin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.ops.tracing import is_exporting
from lexiseg.plain_settings import require_plain_settings, within

BackboneKind = Literal["resnet", "swin"]
StemKind = Literal["plain", "deep"]

STAGES = 4

_SWIN_UNTRACEABLE = (
    "a Swin backbone cannot be traced for images of any size; a program needs model.backbone=resnet"
)


@dataclass(frozen=True)
class BackboneSettings:
    """Sizes of a backbone; defaults are ResNet-50's.

    Attributes:
        backbone: ``resnet`` of bottlenecks whose 3×3 convolution strides, or ``swin``.
        backbone_width: Channels of the first of four stages; each of the others has twice those of the one before.
        backbone_depths: Blocks of each stage.
        backbone_frozen: Of a ResNet, how much stays as it starts: 0 nothing, 1 the stem, 2 the first stage too, and so on.
        backbone_lr_scale: The backbone learns at this times ``optim.lr``.
        stem: Of a ResNet: ``plain``, a 7×7 convolution, or DeepLab's ``deep`` one, three of 3×3 ("R-101c").
        stem_width: Channels that the stem gives.
        last_dilations: Of a ResNet, one dilation per block of its last stage, whose stride is kept; empty for none.
        swin_heads: Attention heads of each stage.
        swin_window: Side of an attention window in patches.
        swin_drop_path: Rate of stochastic depth of the last block; the others' grow up to it.
    """

    backbone: BackboneKind = "resnet"
    backbone_width: int = within(256, at_least=4)
    backbone_depths: tuple[int, ...] = (3, 4, 6, 3)
    backbone_frozen: int = within(0, at_least=0, at_most=1 + STAGES)
    backbone_lr_scale: float = within(0.1, at_least=0)
    stem: StemKind = "plain"
    stem_width: int = within(64, at_least=2)
    last_dilations: tuple[int, ...] = ()
    swin_heads: tuple[int, ...] = (4, 8, 16, 32)
    swin_window: int = within(12, at_least=1)
    swin_drop_path: float = within(0.3, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings."""
        require_plain_settings(self, "model")
        for name, length in (
            ("backbone_depths", STAGES),
            ("swin_heads", STAGES),
            ("last_dilations", self.backbone_depths[-1] if self.last_dilations else 0),
        ):
            object.__setattr__(self, name, _whole_numbers(name, getattr(self, name), length))
        if self.backbone == "resnet" and self.backbone_width % 4:
            raise ConfigError(f"model.backbone_width: expected a multiple of 4, got {self.backbone_width}")
        if self.backbone == "swin":
            for heads, channels in zip(self.swin_heads, self.backbone_channels, strict=True):
                if channels % heads:
                    raise ConfigError(
                        f"model.swin_heads: {heads} heads cannot share {channels} channels; widths are "
                        f"{', '.join(map(str, self.backbone_channels))}"
                    )

    @property
    def backbone_channels(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.backbone_width * 2**stage for stage in range(STAGES))


def _whole_numbers(name: str, given: Any, length: int) -> tuple[int, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != length:
        raise ConfigError(f"model.{name}: expected {length} whole numbers, got {given!r}")
    if any(type(number) is not int or number < 1 for number in given):
        raise ConfigError(f"model.{name}: expected whole numbers of at least 1, got {given!r}")
    return tuple(given)


class Backbone(nn.Module):
    """Four maps of an image, and which parameters of theirs train.

    A ResNet's batch norms are fixed, statistics and scales (FrozenBN, as detectron2 trains it): they are buffers here. A
    Swin has a layer norm of its own on each map that it gives.

    Args:
        settings: Sizes.

    Attributes:
        channels: Of the four maps.
        kind: ``resnet`` or ``swin``.
        untraceable: Why no program can hold it: a Swin's windows for every size take tracing longer than anybody waits.
    """

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        self.kind = settings.backbone
        self.untraceable = None if settings.backbone == "resnet" else _SWIN_UNTRACEABLE
        self.channels = settings.backbone_channels
        self.network = _swin(settings) if settings.backbone == "swin" else _resnet(settings)
        if settings.backbone == "resnet":
            stages = [self.network.embedder, *self.network.encoder.stages]
            for stage in stages[: settings.backbone_frozen]:
                stage.requires_grad_(requires_grad=False)

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image: three of its finest stage, at stride 4."""
        return 3 * 4 * self.channels[0] * height * width // 16

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised ``(B, 3, H, W)`` to maps ``(B, C, h, w)`` of strides 4, 8, 16 and 32.

        Raises:
            ConfigError: A program is traced with a Swin.
        """
        if self.untraceable and is_exporting():
            raise ConfigError(self.untraceable)
        maps: tuple[Tensor, ...] = self.network(images).feature_maps
        return maps


class DeepStem(nn.Module):
    """DeepLab's three 3×3 convolutions before the max-pool, the first of which strides.

    Args:
        width: Channels that it gives; the first two convolutions have half of them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        from transformers.models.resnet.modeling_resnet import ResNetConvLayer

        half = width // 2
        self.layers = nn.Sequential(
            ResNetConvLayer(3, half, stride=2), ResNetConvLayer(half, half), ResNetConvLayer(half, width)
        )
        self.pooler = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, width, H/4, W/4)``."""
        pooled: Tensor = self.pooler(self.layers(images))
        return pooled


def _resnet(settings: BackboneSettings) -> Any:
    from transformers import ResNetBackbone, ResNetConfig
    from transformers.models.detr.modeling_detr import replace_batch_norm

    sizes: dict[str, Any] = {
        "embedding_size": settings.stem_width,
        "hidden_sizes": list(settings.backbone_channels),
        "depths": list(settings.backbone_depths),
        "out_features": _stage_names(),
    }
    network: Any = ResNetBackbone(ResNetConfig(**sizes))
    if settings.stem == "deep":
        network.embedder = DeepStem(settings.stem_width)
    last = network.encoder.stages[-1].layers
    for block, dilation in zip(last, settings.last_dilations, strict=False):
        convolution = block.layer[1].convolution
        convolution.dilation = convolution.padding = (dilation, dilation)
    with torch.no_grad():  # what is copied out of parameters would remember them
        replace_batch_norm(network)
    return network


def _swin(settings: BackboneSettings) -> Any:
    from transformers import SwinBackbone, SwinConfig

    sizes: dict[str, Any] = {
        "embed_dim": settings.backbone_width,
        "depths": list(settings.backbone_depths),
        "num_heads": list(settings.swin_heads),
        "window_size": settings.swin_window,
        "drop_path_rate": settings.swin_drop_path,
        "out_features": _stage_names(),
    }
    network: Any = SwinBackbone(SwinConfig(**sizes))
    network.swin.layernorm = nn.Identity()  # of whole-image classification: no map passes through it
    return network


def _stage_names() -> list[str]:
    return [f"stage{stage + 1}" for stage in range(STAGES)]
