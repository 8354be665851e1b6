"""Every architectural choice of LSeg."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from lexiseg.errors import ConfigError
from lexiseg.models.spatial_regularization import ActivationKind, BlockKind
from lexiseg.plain_settings import require_plain_settings, within

EncoderKind = Literal["vit", "resnet"]

LEVELS = 4
"""Maps that the decoder joins: strides 4, 8, 16 and 32 for patches of 16."""


@dataclass(frozen=True)
class LSegSettings:
    """Every architectural choice of LSeg; defaults are the released demo's, whose encoder is a ViT-L/16.

    Attributes:
        name: ``lseg``.
        encoder: What sees the image: ``vit`` (with DPT's reassembling) or ``resnet``, as in the few-shot models. Nothing of
            CLIP either way.
        patch_size: Side of the ViT's patches in pixels; images must be multiples of twice as many, or of 32 for a ResNet.
        grid: Patches per side that the ViT's position embedding was made for.
        width: Channels of the ViT.
        heads: Attention heads of the ViT.
        mlp_width: Hidden channels of the ViT's blocks.
        taps: Blocks of the ViT that are read, from 1, shallow to deep; the last is the ViT's last block.
        reassembled: Channels of each tapped block after reassembling.
        stem: Channels of the ResNet's first convolution.
        stages: Channels of the ResNet's stages.
        depths: Blocks of the ResNet's stages.
        features: Channels of the decoder.
        temperature: What the cosine of pixel and word is divided by; it never trains.
        block: Spatial regularisation of the words' maps: ``none`` (the released models), ``bottleneck`` or ``depthwise``.
        block_depth: How often its one convolution is applied; 0 is as 1.
        activation: Between these times: ``lrelu``, ``tanh`` or ``relu``.
        upsampled: Whether masks come at the image's size, corners aligned, as released; else as the decoder leaves them, at
            half of it, in a quarter of the memory, and whoever reads them upsamples.
    """

    name: str = "lseg"
    encoder: EncoderKind = "vit"
    patch_size: int = within(16, at_least=1)
    grid: int = within(24, at_least=1)
    width: int = within(1024, at_least=1)
    heads: int = within(16, at_least=1)
    mlp_width: int = within(4096, at_least=1)
    taps: tuple[int, ...] = (6, 12, 18, 24)
    reassembled: tuple[int, ...] = (256, 512, 1024, 1024)
    stem: int = within(64, at_least=1)
    stages: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 23, 3)
    features: int = within(256, at_least=1)
    temperature: float = within(0.07, above=0)
    block: BlockKind = "none"
    block_depth: int = within(1, at_least=0)
    activation: ActivationKind = "lrelu"
    upsampled: bool = True

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings."""
        require_plain_settings(self, "model")
        for key in ("taps", "reassembled", "stages", "depths"):
            object.__setattr__(self, key, _four_numbers(key, getattr(self, key)))
        if any(later <= earlier for earlier, later in pairwise(self.taps)):
            raise ConfigError(f"model.taps: expected blocks from shallow to deep, got {list(self.taps)}")
        if self.width % self.heads:
            raise ConfigError(f"model.heads={self.heads} does not divide model.width={self.width}")

    @property
    def stride(self) -> int:
        """Height and width of images are multiples of it."""
        return 2 * self.patch_size if self.encoder == "vit" else 32

    @property
    def enlargement(self) -> int:
        """By how much the decoder's map is smaller than the image: 2 as published; 1 for patches of 8 pixels and below."""
        return max(self.stride // 16, 1)

    @property
    def levels(self) -> tuple[int, ...]:
        """Channels of the encoder's maps, fine to coarse."""
        return self.reassembled if self.encoder == "vit" else self.stages


def _four_numbers(key: str, given: Any) -> tuple[int, ...]:
    whole = isinstance(given, Sequence) and all(type(value) is int and value >= 1 for value in given)
    if not whole or len(given) != LEVELS:
        raise ConfigError(f"model.{key}: expected {LEVELS} whole numbers of at least 1, got {given!r}")
    return tuple(given)
