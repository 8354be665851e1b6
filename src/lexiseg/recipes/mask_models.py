"""Mask providers that need a model: loaded, and identified for the cache."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lexiseg.clip.model import fingerprint
from lexiseg.clip.towers.external import ExternalVision
from lexiseg.errors import ConfigError
from lexiseg.inference.encoding import WindowEncoder
from lexiseg.inference.layout import lay_out
from lexiseg.inference.pipeline import Pipeline
from lexiseg.masks.dino_kmeans import DinoKMeans, KMeansSettings
from lexiseg.masks.proposed_regions import ProposedRegions, ProposedRegionsSettings
from lexiseg.masks.provider import MaskProvider, Picture
from lexiseg.masks.segment_anything import SegmentAnything, SegmentAnythingSettings
from lexiseg.masks.segment_anything_model import load_promptable_model
from lexiseg.models.region_model import RegionModel
from lexiseg.ops.class_chunks import LinearMerge
from lexiseg.types import ClassWords, chunks

_DINO_SIDE = 768
"""Longer side in pixels that a DINO sees at most."""

_ROWS = 64
"""Rows of a photograph whose mask logits are held at once, of all regions."""


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


class _FindRegions:
    """Regions of one photograph by a trained model, read as its protocol reads it, the whole photograph at once."""

    def __init__(self, pipeline: Pipeline) -> None:
        protocol = replace(pipeline.protocol, window=None, stride=None)
        self._model, self._protocol = cast(RegionModel, pipeline.model), protocol
        self._encoder = WindowEncoder(
            self._model, window_batch=1, precision=protocol.precision, resize=protocol.resize
        )
        # Whatever the words: they name regions, and a region's confidence is that it is any of the classes of training.
        self._words = ClassWords.plain(pipeline.segmenter().embeddings.vectors.to(self._encoder.device))

    @torch.no_grad()
    def __call__(self, image: Picture, threshold: float) -> tuple[npt.NDArray[np.bool_], list[float]]:
        layout = lay_out((image.shape[0], image.shape[1]), self._protocol, self._model.patch_size)
        (batch,) = self._encoder.encode([image], [layout])
        found = self._encoder.classify(batch.state, self._words)
        masks = found.masks.float()
        axes = layout.windows[0].axes((masks.shape[2], masks.shape[3]), masks.device)
        logits, (height, width) = LinearMerge(masks, *axes), layout.windows[0].source
        shown = np.empty((masks.shape[1], height, width), dtype=np.bool_)
        for rows in chunks(height, _ROWS):
            tile = logits.tile(rows, slice(0, width), slice(0, len(shown)))  # (R, N, W)
            shown[:, rows] = (tile.sigmoid() > threshold).permute(1, 0, 2).cpu().numpy()
        nothing = torch.zeros(len(shown)) if found.nothing is None else found.nothing[0].float().cpu()
        return shown, (1 - nothing).clamp(0, 1).tolist()


def regions(model: str, device: torch.device, chosen: Mapping[str, Any]) -> MaskProvider:
    """What a trained model of regions finds.

    Raises:
        LexisegError: No such checkpoint, or one of a model that finds no regions.
    """
    settings = ProposedRegionsSettings(**chosen)
    if not model:
        raise ConfigError(
            "provider regions: --model names no checkpoint; give that of a trained SAN, FC-CLIP, …"
        )
    pipeline = Pipeline.load(model, device=str(device))
    if not isinstance(pipeline.model, RegionModel):
        raise ConfigError(
            f"{model}: a {type(pipeline.model).__name__}, which finds no regions; give a trained san, fc_clip, zegformer, "
            "ovseg or open_seg"
        )
    own = pipeline.model.settings
    if hasattr(own, "branch"):  # names are not asked for, so CLIP need not look at crops
        pipeline.model.settings = replace(own, branch="segment")
    source = {"model": own.name, "weights": fingerprint(pipeline.model)}
    return ProposedRegions(_FindRegions(pipeline), source=source, settings=settings)


def _identity(model: str, network: nn.Module) -> dict[str, str]:
    """What the cache calls a model: its weights count, wherever their folder lies."""
    return {"model": Path(model).name if Path(model).is_dir() else model, "weights": fingerprint(network)}
