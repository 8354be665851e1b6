"""Mask providers that need a model: loaded, and identified for the cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lexiseg.clip.model import fingerprint
from lexiseg.clip.towers.external import ExternalVision
from lexiseg.masks.dino_kmeans import DinoKMeans, KMeansSettings
from lexiseg.masks.provider import MaskProvider, Picture
from lexiseg.masks.segment_anything import SegmentAnything, SegmentAnythingSettings
from lexiseg.masks.segment_anything_model import load_promptable_model

_DINO_SIDE = 768
"""Longer side in pixels that a DINO sees at most."""


class _PatchTokens:
    """Patch tokens of one photograph, its longer side shrunk so that the tower's memory stays bounded."""

    def __init__(self, tower: ExternalVision, device: torch.device) -> None:
        self._tower, self._device = tower.to(device), device
        self._mean = torch.tensor(tower.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(tower.std, device=device).view(3, 1, 1)

    def __call__(self, image: Picture) -> Tensor:
        pixels = torch.from_numpy(image).to(self._device).permute(2, 0, 1)[None] / 255
        factor = _DINO_SIDE / max(image.shape[:2])
        if factor < 1:
            pixels = nn.functional.interpolate(
                pixels, scale_factor=factor, mode="bilinear", antialias=True, align_corners=False
            )
        tokens: Tensor = self._tower.dense_features((pixels - self._mean) / self._std)
        return tokens[0]


def dino(model: str, device: torch.device, chosen: Mapping[str, Any]) -> MaskProvider:
    """Clustered patch tokens of a vision transformer."""
    settings = KMeansSettings(**chosen)
    tower = ExternalVision(model)
    source = {**_identity(model, tower.model), "side": _DINO_SIDE}
    return DinoKMeans(_PatchTokens(tower, device), source=source, settings=settings)


def sam(model: str, device: torch.device, chosen: Mapping[str, Any]) -> MaskProvider:
    """Everything that a SAM finds."""
    settings = SegmentAnythingSettings(**chosen)
    promptable = load_promptable_model(model)
    return SegmentAnything(
        promptable.to(device), source=_identity(model, promptable.model), settings=settings
    )


def _identity(model: str, network: nn.Module) -> dict[str, str]:
    """What the cache calls a model: its weights count, wherever their folder lies."""
    return {"model": Path(model).name if Path(model).is_dir() else model, "weights": fingerprint(network)}
