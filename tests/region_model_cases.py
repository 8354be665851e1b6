"""A tiny frozen CLIP and the tiny sizes of models that name regions on it."""

import torch
import torch.nn.functional as F
from transformers import CLIPModel

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.types import ClassWords
from support import tiny_clip_config

SIZES = {
    "backbone_width": 16,
    "stem_width": 8,
    "backbone_depths": (1, 2, 1, 1),
    "feature_width": 64,
    "mask_width": 12,
    "query_width": 20,
    "query_heads": 5,
    "query_feedforward": 28,
    "query_layers": 3,
    "queries": 7,
    "query_dropout": 0.0,
}
SWIN = {"backbone": "swin", "swin_heads": (1, 2, 4, 8), "swin_window": 3, "swin_drop_path": 0.0}
HEIGHT, WIDTH = 64, 96
CLASSES = 5


def tiny_tower(seed: int = 0, **sizes) -> VisionTower:
    torch.manual_seed(seed)
    return VisionTower(CLIPModel(tiny_clip_config(**sizes)).eval())


def photographs(model, count: int = 2, seed: int = 1, height: int = HEIGHT, width: int = WIDTH):
    """Normalised pictures with large and small structure."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 3, 5, generator=generator) * 255
    return model.normalize(F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255))


def spoken(width: int, seed: int = 2, classes: int = CLASSES) -> ClassWords:
    generator = torch.Generator().manual_seed(seed)
    text = F.normalize(torch.randn(classes, width, generator=generator), dim=-1)
    crop_text = F.normalize(torch.randn(classes, width, generator=generator), dim=-1)
    seen = torch.arange(classes) % 2 == 0
    return ClassWords(text, torch.arange(classes), seen, crop_text)
