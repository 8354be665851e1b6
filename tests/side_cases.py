"""A tiny CLIP and a tiny side adapter, all of whose sizes differ."""

import torch
from transformers import CLIPModel

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.models.san import SAN
from lexiseg.models.san_settings import SANSettings
from support import tiny_clip_config

SETTINGS = SANSettings(
    queries=5,
    width=14,
    depth=3,
    heads=2,
    hidden=22,
    grid=6,
    resolution=0.7,
    early_blocks=2,
    fusion=((0, 0), (2, 1)),
    decoded=(2, 3),
    decoder_hidden=11,
    decoder_width=13,
    scale=20.0,
)
EMBED = 16
"""Of the tiny CLIP's text space."""

SIZE = (64, 96)
"""Of an image: 4×6 patches of the side adapter, 5×8 of CLIP."""


def tower(depth: int = 3) -> VisionTower:
    """Patches of 8, 40 pixels; weights large enough that every part of it matters."""
    torch.manual_seed(0)
    model = CLIPModel(tiny_clip_config(depth=depth)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return VisionTower(model)


def shaken(module, scale=0.2):
    """With random parts added to every weight, so that none of them is 0 or 1."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module.eval()


def san(settings: SANSettings = SETTINGS) -> SAN:
    return shaken(SAN(tower(), settings))


def images(count: int = 2, size: tuple[int, int] = SIZE) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(count, 3, *size)


def words(count: int = 7) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.nn.functional.normalize(torch.randn(count, EMBED), dim=-1)
