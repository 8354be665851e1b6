"""Images, words, and every encoder with the settings that a tower of three blocks needs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import DENSE_ENCODERS, DenseEncoder, build_dense
from lexiseg.dense.registry import GROUP_READINGS
from lexiseg.dense.wants import wants_second_model

SETTINGS = {
    "clip-surgery": {"blocks": 2},
    "gem": {"blocks": 2},
    "resclip": {"feedback_threshold": 0.1},
}
"""What the tests' tower of three blocks and twenty-one patches needs."""

VARIANTS = {
    "maskclip-refined": {"denoising_threshold": 0.3, "smoothing_threshold": 0.9},
    "sclip-identity": {"projections": ["identity"]},
    "sclip-random": {"projections": ["random"]},
    "clip-surgery-plain": {"feature_surgery": False},
}
"""Choices of a method that read otherwise: its name, a dash, and what to build it with."""

PATCH_METHODS = tuple(name for name in DENSE_ENCODERS if name not in GROUP_READINGS)
"""The methods that read the patches of a tower one by one."""

ENCODERS: dict[str, dict] = {name: SETTINGS.get(name, {}) for name in PATCH_METHODS} | VARIANTS
"""Every method of patches, and the variants."""


def pooled_colors(images: Tensor) -> Tensor:
    """Stands for an external model: a finer grid than CLIP's, three channels and their products."""
    pooled = F.avg_pool2d(images, 4)
    return torch.cat([pooled, pooled * pooled.roll(1, dims=1)], dim=1)


def make_encoder(name: str, tower: VisionTower, **settings) -> DenseEncoder:
    method = max((key for key in DENSE_ENCODERS if name.startswith(key)), key=len)
    extra = {"proxy": pooled_colors} if wants_second_model(method) else {}
    encoder = build_dense(method, tower, **extra, **(ENCODERS.get(name, {}) | settings))
    if method == "lavg":  # read without masks it is SCLIP
        inside = encoder.encode
        encoder.encode = lambda images: inside(
            images, regions=encoder.region_map(halves(images))[None].expand(len(images), -1, -1, -1)
        )
    return encoder


def halves(images: Tensor) -> Tensor:
    """Two masks ``(2, H, W)`` bool that overlap, and a rest."""
    height, width = images.shape[-2:]
    masks = torch.zeros(2, height, width, dtype=torch.bool)
    masks[0, :, : width // 2] = masks[1, : height // 2, : width - 2] = True
    return masks


def some_images() -> Tensor:
    """Three different images of 3×7 patches of 8 pixels."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(3, 3, 5, 11, generator=generator)
    smooth = F.interpolate(coarse, size=(24, 56), mode="bilinear")
    return smooth + 0.3 * torch.randn(smooth.shape, generator=generator)


def some_words() -> Tensor:
    """Seven unit words in a joint space of 16."""
    return F.normalize(torch.randn(7, 16, generator=torch.Generator().manual_seed(2)), dim=1)
