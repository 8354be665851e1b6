"""What open_clip writes beside its weights: the settings that tensors do not tell."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lexiseg.clip.formats.openai import Activation
from lexiseg.errors import CheckpointError

log = logging.getLogger(__name__)

_SETTINGS = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_CONVNEXT_SIZE = 320
"""Of ``convnext_base_w_320``, PixelCLIP's second tower, and ``convnext_large_d_320``."""


def weights_in(folder: Path) -> Path | None:
    """The weight file of a folder as open_clip publishes it; None for any other, and where transformers can read it."""
    if (folder / "config.json").is_file():
        return None
    return next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)


def activation_of(path: Path, *, says_openai: bool) -> Activation:
    """Activation of a ViT CLIP: from the settings beside it, else OpenAI's own, with a warning if that is a guess."""
    settings = _settings(path)
    if settings is not None:
        return "quick_gelu" if settings.get("quick_gelu") else "gelu"
    if not says_openai:
        log.warning(
            "%s does not say its activation; taking QuickGELU, as OpenAI's. For weights trained by open_clip without "
            "'-quickgelu' in the model name, set clip.activation=gelu",
            path,
        )
    return "quick_gelu"


def convnext_text_activation(path: Path) -> Activation:
    """Activation of the text tower beside a ConvNeXt: the exact GELU unless the settings say otherwise."""
    return "quick_gelu" if (_settings(path) or {}).get("quick_gelu") else "gelu"


def convnext_image_size(path: Path) -> int:
    """Side of the square images that a ConvNeXt CLIP was trained on: from the settings beside it, else 320."""
    side = (_settings(path) or {}).get("vision_cfg", {}).get("image_size")
    if side is None:
        log.warning(
            "%s does not say its image size; taking %d, as convnext_base_w_320. It sets the windows of training-free "
            "readings; open_clip's %s beside the weights would tell",
            path,
            _CONVNEXT_SIZE,
            _SETTINGS,
        )
        return _CONVNEXT_SIZE
    return int(side[0] if isinstance(side, list) else side)


def _settings(path: Path) -> Mapping[str, Any] | None:
    """The model's settings from the file beside its weights, or None without one."""
    file = path.parent / _SETTINGS
    if not file.is_file():
        return None
    try:
        settings = json.loads(file.read_text())
        return settings.get("model_cfg", settings)
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: expected open_clip's settings as a JSON object ({error})") from error
