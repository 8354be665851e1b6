"""What PixelCLIP's optimiser is given: parts with learning rates of their own, and the cosine they follow."""

import math
from typing import Any

from torch import nn

from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings


def pixel_clip_parameter_groups(model: PixelCLIP, settings: PixelCLIPOptimSettings) -> list[dict[str, Any]]:
    """Trainable parameters in groups for AdamW, each with ``name``, ``lr`` and ``weight_decay``; empty ones left out."""
    norms = {
        id(p) for module in model.modules() if isinstance(module, nn.GroupNorm) for p in module.parameters()
    }
    prompts = [] if model.prompts is None else list(model.prompts.parameters())
    decoder = list(model.decoder.parameters())
    parts = [
        ("prompts", prompts, settings.prompt_factor, settings.weight_decay),
        ("clip", list(model.student.parameters()), settings.clip_factor, settings.weight_decay),
        (
            "decoder",
            [p for p in decoder if id(p) not in norms],
            settings.decoder_factor,
            settings.weight_decay,
        ),
        (
            "decoder_norms",
            [p for p in decoder if id(p) in norms],
            settings.decoder_factor,
            settings.norm_weight_decay,
        ),
    ]
    groups = []
    for name, parameters, factor, decay in parts:
        trained = [p for p in parameters if p.requires_grad]
        if trained:
            groups.append(
                {"name": name, "params": trained, "lr": settings.lr * factor, "weight_decay": decay}
            )
    return groups


def cosine_factor(step: int, max_steps: int, final_factor: float) -> float:
    """Share of the learning rate at ``step`` (from 0) of ``max_steps``: a half cosine from 1 to ``final_factor``."""
    progress = min(step / max_steps, 1.0)
    return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * progress)) / 2
