"""One loader for every form in which CLIP weights travel: it finds out which form it is, and asks its reader."""

import importlib.resources
from pathlib import Path
from typing import Any, Literal

from lexiseg.clip.families import family_called
from lexiseg.clip.formats.groupvit import groupvit_from_original, is_groupvit_layout
from lexiseg.clip.formats.huggingface import KNOWN_WORDS, load_model, read_preparation, read_settings
from lexiseg.clip.formats.open_clip import (
    activation_of,
    convnext_from_open_clip,
    convnext_image_size,
    convnext_text_activation,
    is_convnext_layout,
    weights_in,
)
from lexiseg.clip.formats.openai import Activation, config_from_openai, is_openai_layout, model_from_openai
from lexiseg.clip.formats.openai_resnet import is_resnet_layout, resnet_from_openai
from lexiseg.clip.formats.weight_file import read_clip_file
from lexiseg.clip.model import DEFAULT_CLIP, FrozenCLIP
from lexiseg.clip.tokenizer import TextTokenizer, huggingface_tokenizer, openai_tokenizer
from lexiseg.clip.towers.external import ExternalVision
from lexiseg.clip.towers.family import Family
from lexiseg.errors import CheckpointError, ConfigError, near_name
from lexiseg.progress import doing
from lexiseg.storage import leads_somewhere

TOY_CLIP = "toy"
"""The small CLIP shipped with the package, which knows only the toy world."""


def load_clip(
    source: str | Path = DEFAULT_CLIP,
    *,
    tokenizer: str | Path | None = None,
    activation: Activation | Literal["auto"] = "auto",
    vision_heads: int | None = None,
    text_heads: int | None = None,
) -> FrozenCLIP:
    """Load a CLIP, frozen and in float32.

    Args:
        source: A hub name (``openai/clip-vit-base-patch16``) or Hugging Face folder of any family in
            :data:`~lexiseg.clip.families.FAMILIES`, OpenAI's release file (TorchScript archive or plain state
            dict), an open_clip state dict (``.pt``, ``.bin``, ``.safetensors``) of a ViT, a ConvNeXt or OpenAI's
            ResNet, a folder as open_clip publishes it, GroupViT's own file, or ``toy``.
        tokenizer: For files that bring none: a Hugging Face CLIP folder or name, or OpenAI's
            ``bpe_simple_vocab_16e6.txt.gz``. Without it, such a CLIP encodes images only.
        activation: ``quick_gelu`` or ``gelu``; ``auto`` reads the configuration beside the weights and takes
            OpenAI's QuickGELU where a bare state dict has none. With a ConvNeXt it is the text tower's alone,
            and GELU where nothing says otherwise.
        vision_heads: Heads of the image tower (of a ResNet, its attention pool) for files that do not say; width / 64
            by default.
        text_heads: Heads of the text tower, likewise.

    Raises:
        LexisegError: Nothing can be loaded from there; the message names the choices.
        CheckpointError: The file is damaged, unsafe, or not such a CLIP.
    """
    with doing(f"loading the CLIP {source}"):
        return _load(source, tokenizer, activation, vision_heads=vision_heads, text_heads=text_heads)


def load_vision(source: str | Path) -> ExternalVision:
    """A second vision model: any of ``transformers`` by hub name or folder; ``toy`` is the shipped CLIP's, as such a folder.

    Raises:
        LexisegError: As :class:`~lexiseg.clip.towers.external.ExternalVision` raises it.
    """
    if str(source) == TOY_CLIP:
        return ExternalVision(load_model("CLIPModel", _toy_folder(), what="CLIP").vision_model)
    return ExternalVision(source)


def _toy_folder() -> str:
    return str(importlib.resources.files("lexiseg") / "assets" / "toy_clip")


def _load(
    source: str | Path,
    tokenizer: str | Path | None,
    activation: Activation | Literal["auto"],
    *,
    vision_heads: int | None,
    text_heads: int | None,
) -> FrozenCLIP:
    if str(source) == TOY_CLIP:
        return _load_folder(_toy_folder(), tokenizer, name=TOY_CLIP)
    _require_known(str(source))
    path = weights_in(Path(source)) or Path(source)
    if not path.is_file():
        return _load_folder(str(source), tokenizer, name=str(source))
    model = _model_from_file(path, activation, vision_heads=vision_heads, text_heads=text_heads)
    if path.parent == Path(source) and (path.parent / "tokenizer.json").is_file():
        tokenizer = tokenizer or path.parent
    return FrozenCLIP(model, _tokenizer(tokenizer), source=str(source))


def _require_known(source: str) -> None:
    """Refuse a misspelled name of ours before the hub is asked for it; every CLIP there stands below its owner's name.

    Raises:
        ConfigError: Says what was meant.
    """
    if "/" in source or leads_somewhere(source):
        return
    if near_name(source, [TOY_CLIP]):
        raise ConfigError(f"no CLIP '{source}'; did you mean {TOY_CLIP}?")


def _model_from_file(
    path: Path, activation: Activation | Literal["auto"], *, vision_heads: int | None, text_heads: int | None
) -> Any:
    """Any kind of CLIP from a weight file in OpenAI's, open_clip's or GroupViT's layout."""
    state, says_openai = read_clip_file(path)
    chosen: Activation | None = None if activation == "auto" else activation
    if is_convnext_layout(state):
        if vision_heads is not None:
            raise ConfigError(f"clip.vision_heads: {path} has a ConvNeXt, without heads; leave it at null")
        return convnext_from_open_clip(
            state,
            activation=chosen or convnext_text_activation(path),
            text_heads=text_heads,
            image_size=convnext_image_size(path),
        )
    if is_groupvit_layout(state):
        return groupvit_from_original(
            state, activation=chosen or "quick_gelu", vision_heads=vision_heads, text_heads=text_heads
        )
    if not is_openai_layout(state):
        raise CheckpointError(
            f"{path}: expected OpenAI's or open_clip's keys (visual.conv1.weight or visual.trunk.stages…, "
            f"token_embedding.weight, …); got {', '.join(list(state)[:3])}, …. For a Hugging Face CLIP give its folder, "
            "not a file in it"
        )
    chosen = chosen or activation_of(path, says_openai=says_openai)
    if is_resnet_layout(state):
        return resnet_from_openai(state, activation=chosen, vision_heads=vision_heads, text_heads=text_heads)
    config = config_from_openai(state, activation=chosen, vision_heads=vision_heads, text_heads=text_heads)
    return model_from_openai(state, config)


def _load_folder(location: str, tokenizer: str | Path | None, *, name: str) -> FrozenCLIP:
    """A Hugging Face folder or hub name of the family that its ``config.json`` names."""
    family = family_called(read_settings(location).get("model_type", "clip"), source=name)
    model = load_model(str(family.model_class), location, what="CLIP")
    words = Path(location) / KNOWN_WORDS
    return FrozenCLIP(
        model,
        _tokenizer(tokenizer or location, family),
        source=name,
        known_words=_read_known(words) if words.is_file() else None,
        preparation=read_preparation(location),
    )


def _read_known(path: Path) -> frozenset[str]:
    try:
        return frozenset(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: expected UTF-8 text ({error}); copy the folder again") from error


def _tokenizer(source: str | Path | None, family: Family | None = None) -> TextTokenizer | None:
    if source is None:
        return None
    if str(source).endswith(".gz"):
        return openai_tokenizer(Path(source))
    return (huggingface_tokenizer if family is None else family.tokenizer)(str(source))
