"""Weights of whole-image classification for the encoder that a model trains beside CLIP: from a file, a folder or the hub."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from torch import Tensor, nn

from lexiseg.checkpoints.files import read_tensors
from lexiseg.checkpoints.layouts.backbones import EncoderLayout, to_encoder, untrained
from lexiseg.checkpoints.model_folder import WEIGHTS, is_hub_name
from lexiseg.checkpoints.training_file import check_tensors, load_tensors_only
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.keys import check_keys
from lexiseg.models.image_pyramids import ResNetPyramid, VitPyramid
from lexiseg.models.proposers.backbone import Backbone

_EXPECTED = "weights of a ResNet, a Swin or a ViT in torchvision's, timm's or transformers' layout"
_CONTAINERS = ("state_dict", "model")
"""Under which keys a file may hold its tensors."""


def load_backbone_weights(model: nn.Module, source: str | Path) -> None:
    """Start a model's own encoder from weights that whole images were classified with; every key is accounted for.

    The classifier's head, and the last norm before it, are left out. A Swin's norms on its four maps are in no such file and
    stay as they start.

    Args:
        model: One whose encoder is no CLIP.
        source: A ``.safetensors`` or ``.pth`` file, a folder with ``model.safetensors``, or the hub name of one. Nothing in it
            is executed.

    Raises:
        ConfigError: The model has no such encoder.
        CheckpointError: Not to be had, damaged, asking to run code, or of another network; the message names the keys.
    """
    layout, network = _encoder_of(model)
    found, unknown = to_encoder(layout, _read(source))
    expected = {name: tensor for name, tensor in network.state_dict().items() if not untrained(layout, name)}
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items() if not untrained(layout, name)}
    check_keys(
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        shapes | dict.fromkeys(unknown, ()),
        what=f"{layout} of this model's sizes ({source})",
    )
    with torch.no_grad():
        network.load_state_dict(found, strict=False)


def _encoder_of(model: nn.Module) -> tuple[EncoderLayout, Any]:
    """The encoder as transformers built it, and whose layout its files have.

    Raises:
        ConfigError: It has none.
    """
    for part in model.modules():
        if isinstance(part, VitPyramid):
            return "ViT", part.network
        if isinstance(part, ResNetPyramid | Backbone):
            return "Swin" if getattr(part, "kind", "") == "swin" else "ResNet", part.network
    raise ConfigError(
        "backbone_weights: this model has no encoder of its own beside CLIP; it is for zegformer, ovseg, open_seg, lseg, and "
        "two_stage with model/proposer=maskformer or cross_attention. Leave it out"
    )


def _read(source: str | Path) -> dict[str, Tensor]:
    path = Path(source)
    if path.is_dir():
        path = path / WEIGHTS
    elif not path.is_file() and is_hub_name(source):
        path = _downloaded(str(source))
    if path.suffix == ".safetensors":
        return read_tensors(path, expected=_EXPECTED)
    loaded = load_tensors_only(path, expected=_EXPECTED)
    state = next((loaded[key] for key in _CONTAINERS if key in loaded), loaded)
    check_tensors(state, path)
    return dict(state)


def _downloaded(name: str) -> Path:
    """The safetensors file of a model on the hub; a pickle there is not even downloaded.

    Raises:
        CheckpointError: It is not to be had.
    """
    try:
        return Path(hf_hub_download(name, WEIGHTS))
    except Exception as error:  # the hub's client passes on whatever its HTTP library raises
        told = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"backbone_weights: '{name}' is neither a file nor a folder, nor has the Hugging Face hub a {WEIGHTS} of that name "
            f"({told}); expected {_EXPECTED}"
        ) from error
