"""Mask providers that need a model: loaded, and identified for the cache."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lexiseg.clip.formats.huggingface import asking_hub
from lexiseg.clip.model import fingerprint
from lexiseg.clip.towers.external import ExternalVision
from lexiseg.errors import ConfigError
from lexiseg.masks.dino_kmeans import DinoKMeans, KMeansSettings
from lexiseg.masks.panoptic_segments import PanopticSegments
from lexiseg.masks.provider import MaskProvider, Picture
from lexiseg.masks.segment_anything import SegmentAnything, SegmentAnythingSettings
from lexiseg.masks.segment_anything_model import load_promptable_model

_SEEN = ("pixel_values", "pixel_mask")
"""What a panoptic model is shown, of all that its preprocessing gives."""

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


def panoptic(model: str, device: torch.device, chosen: Mapping[str, Any]) -> MaskProvider:
    """Every segment of a panoptic model; it has no settings.

    Raises:
        ConfigError: A setting, or a model without panoptic segments.
        LexisegError: The model cannot be loaded.
    """
    if chosen:
        raise ConfigError(f"panoptic has no setting {', '.join(map(repr, chosen))}; leave it out")
    from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation

    network: Any = asking_hub(
        lambda: AutoModelForUniversalSegmentation.from_pretrained(model), model, what="model"
    )
    processor: Any = asking_hub(
        lambda: AutoImageProcessor.from_pretrained(model, backend="pil"), model, what="image processor"
    )
    if not hasattr(processor, "post_process_panoptic_segmentation"):
        raise ConfigError(
            f"{model}: expected a model with panoptic segments, got {type(network).__name__}; choose one such as "
            "tue-mps/coco_panoptic_eomt_large_640"
        )
    finish = processor.post_process_panoptic_segmentation
    # No segments are joined by their class: unsaid, Mask2Former's processor does the same, and says so of every photograph.
    apart = (
        {"label_ids_to_fuse": set()} if "label_ids_to_fuse" in inspect.signature(finish).parameters else {}
    )
    network = network.eval().requires_grad_(requires_grad=False).to(device)

    def find(image: Picture) -> tuple[npt.NDArray[np.bool_], list[float]]:
        size = (image.shape[0], image.shape[1])
        given = processor(images=image, return_tensors="pt", input_data_format="channels_last")
        with torch.inference_mode():
            told = network(**{key: given[key].to(device) for key in _SEEN if key in given})
        (result,) = finish(told, target_sizes=[size], **apart)
        ids = result["segmentation"].cpu().numpy()
        segments = result["segments_info"]
        masks = [ids == segment["id"] for segment in segments]
        return np.array(masks, dtype=np.bool_).reshape(-1, *size), [float(each["score"]) for each in segments]

    return PanopticSegments(find, source=_identity(model, network))


def _identity(model: str, network: nn.Module) -> dict[str, str]:
    """What the cache calls a model: its weights count, wherever their folder lies."""
    return {"model": Path(model).name if Path(model).is_dir() else model, "weights": fingerprint(network)}
