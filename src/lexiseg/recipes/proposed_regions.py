"""The regions of a trained model as masks without names: its checkpoint loaded, read as it reads photographs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from lexiseg.clip.model import fingerprint
from lexiseg.errors import ConfigError
from lexiseg.inference.encoding import WindowEncoder
from lexiseg.inference.layout import lay_out
from lexiseg.inference.pipeline import Pipeline
from lexiseg.masks.proposed_regions import ProposedRegions, ProposedRegionsSettings
from lexiseg.masks.provider import MaskProvider, Picture
from lexiseg.models.region_model import RegionModel
from lexiseg.ops.class_chunks import LinearMerge
from lexiseg.types import ClassWords, chunks

_ROWS = 64
"""Rows of a photograph whose mask logits are held at once, of all regions."""


class FindRegions:
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
        """Every region; see :data:`~lexiseg.masks.proposed_regions.FindRegions`."""
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
    return ProposedRegions(FindRegions(pipeline), source=source, settings=settings)
