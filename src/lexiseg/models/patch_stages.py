"""The patches of a ViT as the four maps that a decoder of several scales reads, and its pooling under regions."""

import math

import torch
from torch import Tensor, nn

from lexiseg.ops.mask_pooling import mean_in_regions
from lexiseg.types import ImageTower, RegionPooling

CONVOLUTIONAL = ("ConvNeXt", "ResNet")
"""Kinds of towers that give a map per stage."""

_STRIDE = 32
"""Of a convolutional tower's last stage."""


def is_convolutional(tower: ImageTower) -> bool:
    """Whether a tower gives maps of four stages and pools under regions by itself."""
    return tower.kind in CONVOLUTIONAL


def clip_stride(tower: ImageTower) -> int:
    """Of what images must be multiples so that four scales of a tower can be read: of a ViT's, two patches."""
    return _STRIDE if is_convolutional(tower) else 2 * tower.patch_size


class PatchStages(nn.Module):
    """One map of patches to maps of four, two, one and half as many positions per side (ViTDet's simple pyramid, 2022).

    Args:
        width: Channels E of the patches; a multiple of 4.

    Attributes:
        widths: Channels of the four maps, from the finest.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        self.widths = (quarter, half, width, width)
        self.finest = nn.Sequential(
            nn.ConvTranspose2d(width, half, 2, stride=2),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        )
        self.fine = nn.ConvTranspose2d(width, half, 2, stride=2)
        self.coarse = nn.MaxPool2d(2)

    def forward(self, patches: Tensor) -> tuple[Tensor, ...]:
        """``(B, E, h, w)`` with even h and w to maps of ``4h``, ``2h``, ``h`` and ``h / 2`` rows."""
        return self.finest(patches), self.fine(patches), patches, self.coarse(patches)


class PatchPooling:
    """What :class:`~lexiseg.models.region_classifiers.mask_pooling.MaskPooling` asks of a tower, of text-aligned patches.

    Args:
        scale: Of cosines with words.

    Attributes:
        logit_scale: Its logarithm, a tensor without axes.
        empty_regions: False: a region without a patch has no mean.
    """

    empty_regions = False

    def __init__(self, scale: float) -> None:
        self.logit_scale = torch.tensor(math.log(scale))

    def pool_regions(self, features: Tensor, regions: Tensor) -> Tensor:
        """Mean of ``(B, E, h, w)`` over each of ``(B, N, h, w)`` regions: ``(B, N, E)``."""
        return mean_in_regions(features, regions)


def region_pooling(tower: ImageTower, scale: float) -> RegionPooling:
    """How regions of a tower's last map become embeddings: a convolutional tower's own pooling, or means of a ViT's patches.

    Args:
        tower: Frozen.
        scale: Of a ViT's cosines with words; a convolutional tower brings its own.
    """
    return tower if is_convolutional(tower) else PatchPooling(scale)  # type: ignore[return-value]
