"""Mask providers that need a model: loaded, and identified for the cache."""

import inspect
from collections.abc import Callable, Mapping
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
from lexiseg.masks.normalized_cut import NormalizedCut, NormalizedCutSettings
from lexiseg.masks.panoptic_segments import PanopticSegments
from lexiseg.masks.provider import MaskProvider, Picture
from lexiseg.masks.segment_anything import SegmentAnything, SegmentAnythingSettings
from lexiseg.masks.segment_anything_model import load_promptable_model

_SEEN = ("pixel_values", "pixel_mask")
"""What a panoptic model is shown, of all that its preprocessing gives."""

_DINO_SIDE = 768
"""Longer side in pixels that a DINO sees at most."""


class _PatchTokens:
    """What ``read`` gives of one photograph, its longer side shrunk so that the tower's memory stays bounded."""

    def __init__(
        self,
        tower: ExternalVision,
        device: torch.device,
        read: Callable[[Tensor], Tensor],
        side: int = _DINO_SIDE,
    ) -> None:
        tower.to(device)
        self._device, self._read, self._side = device, read, side
        self._mean = torch.tensor(tower.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(tower.std, device=device).view(3, 1, 1)

    def __call__(self, image: Picture) -> Tensor:
        pixels = torch.from_numpy(image).to(self._device).permute(2, 0, 1)[None] / 255
        factor = self._side / max(image.shape[:2])
        if factor < 1:
            pixels = nn.functional.interpolate(
                pixels, scale_factor=factor, mode="bilinear", antialias=True, align_corners=False
            )
        return self._read((pixels - self._mean) / self._std)[0]


def dino(model: str, device: torch.device, chosen: Mapping[str, Any]) -> MaskProvider:
    """Clustered patch tokens of a vision transformer."""
    settings = KMeansSettings(**chosen)
    tower = ExternalVision(model)
    source = {**_identity(model, tower.model), "side": _DINO_SIDE}
    tokens = _PatchTokens(tower, device, tower.dense_features)
    return DinoKMeans(tokens, source=source, settings=settings)


def normalized_cut(model: str, device: torch.device, chosen: Mapping[str, Any]) -> MaskProvider:
    """Objects cut out by the last keys of a vision transformer."""
    settings = NormalizedCutSettings(**chosen)
    tower = ExternalVision(model)
    keys = _PatchTokens(tower, device, lambda images: tower.queries_and_keys(images)[1], settings.side)
    return NormalizedCut(keys, source=_identity(model, tower.model), settings=settings)


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
    apart: dict[str, Any] = (
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
