"""Images, words, and every encoder with the settings that a tower of three blocks needs."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import DENSE_ENCODERS, DenseEncoder, build_dense
from lexiseg.dense.registry import OWN_READINGS
from lexiseg.dense.wants import wants_sam, wants_second_model
from lexiseg.masks.segment_anything_attention import LastAttention

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

PATCH_METHODS = tuple(name for name in DENSE_ENCODERS if name not in OWN_READINGS)
"""The methods that read the patches of a tower one by one."""

ENCODERS: dict[str, dict] = {name: SETTINGS.get(name, {}) for name in PATCH_METHODS} | VARIANTS
"""Every method of patches, and the variants."""


def pooled_colors(images: Tensor) -> Tensor:
    """Stands for an external model: a finer grid than CLIP's, three channels and their products."""
    pooled = F.avg_pool2d(images, 4)
    return torch.cat([pooled, pooled * pooled.roll(1, dims=1)], dim=1)


def pooled_attention(picture: np.ndarray) -> LastAttention:
    """Stands for a SAM: two heads over 5×7 cells whose values are colours, as they are and centred."""
    cells = (
        F.adaptive_avg_pool2d(torch.from_numpy(picture).permute(2, 0, 1).float() / 255, (5, 7)).flatten(1).T
    )
    values = torch.stack([cells, cells - cells.mean(dim=0)])
    return LastAttention(iter((values @ values.mT).softmax(dim=-1)), values, (5, 7))


def other_models(method: str) -> dict:
    """What a method takes beside CLIP, as functions."""
    proxy = {"proxy": pooled_colors} if wants_second_model(method) else {}
    return {**proxy, "sam": pooled_attention} if wants_sam(method) else proxy


def make_encoder(name: str, tower: VisionTower, **settings) -> DenseEncoder:
    method = max((key for key in DENSE_ENCODERS if name.startswith(key)), key=len)
    encoder = build_dense(method, tower, **other_models(method), **(ENCODERS.get(name, {}) | settings))
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
