"""CLIPs as open_clip publishes them: the settings beside the weights, and ConvNeXt towers, read and written."""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lexiseg.clip.formats.openai import (
    Activation,
    assign_checked,
    materialise_positions,
    openai_to_transformers,
    required,
    text_config_from_openai,
)
from lexiseg.clip.formats.weight_file import read_clip_file
from lexiseg.clip.tokenizer import huggingface_tokenizer
from lexiseg.clip.towers.convnext import ConvNextClip, ConvNextTower
from lexiseg.clip.towers.family import Family
from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.errors import CheckpointError
from lexiseg.keys import check_keys
from lexiseg.storage import write_atomically, write_text

if TYPE_CHECKING:
    from transformers import ConvNextConfig

    from lexiseg.clip.model import FrozenCLIP

log = logging.getLogger(__name__)

_SETTINGS = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_CONVNEXT_SIZE = 320
"""Of ``convnext_base_w_320``, PixelCLIP's second tower, and ``convnext_large_d_320``."""

_TRUNK = "visual.trunk.stages."
_BLOCK = re.compile(r"visual\.trunk\.stages\.(\d+)\.blocks\.(\d+)\.")

_EPS = 1e-6
"""Of every layer norm in timm's ConvNeXt, but for the one below."""

_XXLARGE_STEM, _XXLARGE_EPS = 384, 1e-5
"""``convnext_xxlarge`` is told by its stem, the only one of this width, and is the only one with this epsilon."""

_VISION = ("vision_model.", "visual_projection.")

_RENAMES = (
    ("vision_model.embeddings.patch_embeddings.", "visual.trunk.stem.0."),
    ("vision_model.embeddings.layernorm.", "visual.trunk.stem.1."),
    ("vision_model.layernorm.", "visual.trunk.head.norm."),
    ("vision_model.encoder.stages.", _TRUNK),
    ("visual_projection.", "visual.head."),
    (".downsampling_layer.", ".downsample."),
    (".layers.", ".blocks."),
    (".dwconv.", ".conv_dw."),
    (".layernorm.", ".norm."),
    (".pwconv1.", ".mlp.fc1."),
    (".pwconv2.", ".mlp.fc2."),
    (".layer_scale_parameter", ".gamma"),
)
"""transformers' names to open_clip's, whole beginnings before the parts that they contain."""


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


def is_convnext_layout(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of open_clip with a ConvNeXt (``visual.trunk.stages…``)."""
    return any(name.startswith(_TRUNK) for name in state)


def convnext_from_open_clip(
    state: Mapping[str, Tensor],
    *,
    activation: Activation = "gelu",
    text_heads: int | None = None,
    image_size: int,
) -> ConvNextClip:
    """Build a CLIP with a ConvNeXt from open_clip's state dict, in float32; sizes are read off the tensors.

    Args:
        state: Text keys may have the prefix ``text.`` or none.
        activation: Of the text tower; the image tower's is always the exact GELU.
        text_heads: Heads of the text tower; width / 64 if not given, as in every released model.
        image_size: See :class:`ConvNextClip`.

    Raises:
        CheckpointError: Names every key that is missing, superfluous or of a wrong shape.
    """
    text = {name.removeprefix("text."): t for name, t in state.items() if not name.startswith("visual.")}
    text_config = text_config_from_openai(text, activation=activation, heads=text_heads)
    hidden = state.get("visual.head.mlp.fc1.weight")
    with torch.device("meta"):
        model = ConvNextClip(
            _trunk_config(state),
            text_config,
            head_width=None if hidden is None else len(hidden),
            image_size=image_size,
        )
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items() if name.startswith(_VISION)}
    names = {name: _open_clip_name(name) for name in shapes}
    expected = {names[name]: shape for name, shape in shapes.items()}
    found = {name: tuple(t.shape) for name, t in state.items() if name.startswith("visual.")}
    check_keys(expected, found, what="CLIP with a ConvNeXt image tower")  # told in the file's own names
    converted = {ours: state[theirs].float().contiguous() for ours, theirs in names.items()}
    assign_checked(model, converted | openai_to_transformers(text), what="CLIP with a ConvNeXt image tower")
    materialise_positions(model.text_model.embeddings)
    return model


def convnext_to_open_clip(tower: ConvNextTower) -> dict[str, Tensor]:
    """The tower's weights under open_clip's names (``visual.*``): the inverse of :func:`convnext_from_open_clip`."""
    return {_open_clip_name(name): tensor for name, tensor in tower.state_dict().items()}


def _open_clip_name(name: str) -> str:
    for ours, theirs in _RENAMES:
        name = name.replace(ours, theirs)
    return name


def _trunk_config(state: Mapping[str, Tensor]) -> "ConvNextConfig":
    """Depths and widths of the trunk, and the side of its stem's patches."""
    from transformers import ConvNextConfig

    blocks: dict[int, int] = {}
    for found in filter(None, map(_BLOCK.match, state)):
        stage, block = map(int, found.groups())
        blocks[stage] = max(blocks.get(stage, 0), block + 1)
    stem = required(state, "visual.trunk.stem.0.weight")
    widths = [
        len(required(state, f"{_TRUNK}{stage}.blocks.0.norm.weight"))
        for stage in range(max(blocks, default=0) + 1)
    ]
    return ConvNextConfig(
        patch_size=stem.shape[-1],
        num_stages=len(widths),
        depths=[blocks[stage] for stage in range(len(widths))],
        hidden_sizes=widths,
        layer_norm_eps=_XXLARGE_EPS if len(stem) == _XXLARGE_STEM else _EPS,
    )


def save_open_clip(clip: "FrozenCLIP", folder: Path) -> None:
    """Write a CLIP with a ConvNeXt and its text tower as open_clip publishes it; see :func:`save_beside_text`."""
    save_beside_text(clip, convnext_to_open_clip(clip.tower), folder)


def save_beside_text(clip: "FrozenCLIP", visual: Mapping[str, Tensor], folder: Path) -> None:
    """Write the file that a CLIP came from with its image tower as it is now; lexiseg and open_clip read it.

    Text tower, settings and whatever else that file holds go over unchanged, and the tokenizer beside it.

    Args:
        clip: With its text tower.
        visual: Its image tower under the file's own names.
        folder: Made if it is not there; files of the same names are replaced.

    Raises:
        CheckpointError: The file that it came from cannot be read any more.
        LexisegError: The CLIP has no tokenizer, or the folder cannot be written to.
    """
    source = weights_in(Path(clip.source)) or Path(clip.source)
    text = clip.require_text()
    state, _ = read_clip_file(source)
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in {**state, **visual}.items()
    }
    write_atomically(folder / _WEIGHTS[0], lambda part: save_file(tensors, part))
    settings = source.parent / _SETTINGS
    if settings.is_file():
        write_text(settings.read_text(encoding="utf-8"), folder / _SETTINGS)
    text.tokenizer.save(folder, context_length=text.context_length)


CONVNEXT = Family(
    model_class=None,
    image_tower=ConvNextTower,
    text_tower=ClipTextTower,
    tokenizer=huggingface_tokenizer,
    colors=(CLIP_MEAN, CLIP_STD),
    save=save_open_clip,
)
"""A CLIP with a ConvNeXt, which lives in open_clip's files alone."""
