"""One loader for every form in which CLIP weights travel."""

import hashlib
import importlib.resources
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPModel
from transformers.utils import logging as transformers_logging

from lexiseg.clip.formats.open_clip import (
    activation_of,
    convnext_image_size,
    convnext_text_activation,
    weights_in,
)
from lexiseg.clip.formats.openai import Activation, config_from_openai, is_openai_layout, model_from_openai
from lexiseg.clip.formats.torchscript import is_torchscript, read_torchscript_tensors
from lexiseg.clip.tokenizer import TextTokenizer, huggingface_tokenizer, openai_tokenizer
from lexiseg.clip.towers.convnext import (
    ConvNextClip,
    ConvNextTower,
    convnext_from_open_clip,
    is_convnext_layout,
)
from lexiseg.clip.towers.text import TextTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError, ConfigError, LexisegError

DEFAULT_CLIP = "openai/clip-vit-base-patch16"
"""The published methods' tower, by its hub name."""

TOY_CLIP = "toy"
"""The small CLIP shipped with the package, which knows only the toy world."""

KNOWN_WORDS = "known_words.txt"
"""In a Hugging Face folder: the words that a small CLIP has ever read."""

_FINGERPRINT_LENGTH = 16


class FrozenCLIP(nn.Module):
    """Both frozen towers of one CLIP, with what identifies it.

    Attributes:
        tower: The image tower, of whichever kind.
        text_tower: The text tower, or None where a file or the caller brought none.
        logit_scale: Scale of cosines in CLIP's own training, usually 100.
        log_scale: Its logarithm, exactly as the weights hold it.
        config: transformers' description of both towers.
        source: What the user named: hub name, folder or file.
        fingerprint: Hash of all weights; equal for the same weights in any file format.
        known_words: The words that a small CLIP has ever read; None for one that may know any.
    """

    def __init__(
        self,
        model: CLIPModel | ConvNextClip,
        tokenizer: TextTokenizer | None,
        *,
        source: str,
        known_words: frozenset[str] | None = None,
    ) -> None:
        super().__init__()
        self.fingerprint = fingerprint(model)
        self.tower = ConvNextTower(model) if isinstance(model, ConvNextClip) else VisionTower(model)
        self.text_tower = TextTower(model, tokenizer) if tokenizer is not None else None
        self.config = model.config
        self.log_scale = model.logit_scale.detach().clone()
        self.logit_scale = float(self.log_scale.exp())
        self.source = source
        self.known_words = known_words
        self.eval()

    def train(self, mode: bool = True) -> "FrozenCLIP":
        """Stay in evaluation mode whatever the surrounding model does: a frozen tower has no training mode."""
        return super().train(mode=False)

    @property
    def vision(self) -> VisionTower:
        """The image tower where it is a ViT, for everything that reads tokens and attention.

        Raises:
            ConfigError: It is a ConvNeXt, which has neither; :attr:`tower` gives it.
        """
        if isinstance(self.tower, ConvNextTower):
            raise ConfigError(
                f"the CLIP '{self.source}' has a ConvNeXt image tower, without tokens or attention; this needs a CLIP "
                f"with a ViT, such as {DEFAULT_CLIP}"
            )
        return self.tower

    def require_text(self) -> TextTower:
        """The text tower.

        Raises:
            LexisegError: This CLIP was loaded without one.
        """
        if self.text_tower is None:
            raise LexisegError(
                f"the CLIP '{self.source}' has no tokenizer, so words cannot be encoded; give clip.tokenizer: a Hugging "
                "Face CLIP folder or name, or the path of OpenAI's bpe_simple_vocab_16e6.txt.gz"
            )
        return self.text_tower

    def unknown_words(self, names: list[str] | tuple[str, ...]) -> list[str]:
        """Names holding a word that this CLIP has never read; always empty for a CLIP that may know any."""
        if self.known_words is None:
            return []
        return [name for name in names if not set(name.lower().split()) <= self.known_words]


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
        source: A hub name (``openai/clip-vit-base-patch16``), a Hugging Face folder, OpenAI's release file
            (TorchScript archive or plain state dict), an open_clip state dict (``.pt``, ``.bin``,
            ``.safetensors``) of a ViT or a ConvNeXt, a folder as open_clip publishes it, or ``toy``.
        tokenizer: For files that bring none: a Hugging Face CLIP folder or name, or OpenAI's
            ``bpe_simple_vocab_16e6.txt.gz``. Without it, such a CLIP encodes images only.
        activation: ``quick_gelu`` or ``gelu``; ``auto`` reads the configuration beside the weights and takes
            OpenAI's QuickGELU where a bare state dict has none. With a ConvNeXt it is the text tower's alone,
            and GELU where nothing says otherwise.
        vision_heads: Heads of the image tower for files that do not say; width / 64 by default.
        text_heads: Heads of the text tower, likewise.

    Raises:
        LexisegError: Nothing can be loaded from there; the message names the choices.
        CheckpointError: The file is damaged, unsafe, or not such a CLIP.
    """
    if str(source) == TOY_CLIP:
        return _load_folder(
            str(importlib.resources.files("lexiseg") / "assets" / "toy_clip"), tokenizer, name=TOY_CLIP
        )
    path = weights_in(Path(source)) or Path(source)
    if not path.is_file():
        return _load_folder(str(source), tokenizer, name=str(source))
    model = _model_from_file(path, activation, vision_heads=vision_heads, text_heads=text_heads)
    if path.parent == Path(source) and (path.parent / "tokenizer.json").is_file():
        tokenizer = tokenizer or path.parent
    return FrozenCLIP(model, _tokenizer(tokenizer), source=str(source))


def read_clip_file(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Tensors of a weight file, and whether the file itself is plainly OpenAI's (TorchScript, or its metadata keys).

    Raises:
        CheckpointError: Not readable without running code from it, or no state dict.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path), False
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    if is_torchscript(path):
        return read_torchscript_tensors(path), True
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types here; all mean the same to the user
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: not a weight file that loads without running code from it ({first}); nothing was run"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: expected a state dict of tensors, got {type(loaded).__name__}")
    state = {name.removeprefix("module."): value for name, value in state.items()}
    return state, "input_resolution" in state


def _model_from_file(
    path: Path, activation: Activation | Literal["auto"], *, vision_heads: int | None, text_heads: int | None
) -> CLIPModel | ConvNextClip:
    """Either kind of CLIP from a weight file in OpenAI's or open_clip's layout."""
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
    if not is_openai_layout(state):
        raise CheckpointError(
            f"{path}: expected OpenAI's or open_clip's keys (visual.conv1.weight or visual.trunk.stages…, "
            f"token_embedding.weight, …); got {', '.join(list(state)[:3])}, …. For a Hugging Face CLIP give its folder, "
            "not a file in it"
        )
    chosen = chosen or activation_of(path, says_openai=says_openai)
    config = config_from_openai(state, activation=chosen, vision_heads=vision_heads, text_heads=text_heads)
    return model_from_openai(state, config)


def fingerprint(model: nn.Module) -> str:
    """Hash of all weights under transformers' names, in float32: the same for the same weights from any format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith("position_ids"):
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().float().contiguous().cpu().numpy().data)
    return digest.hexdigest()[:_FINGERPRINT_LENGTH]


def _load_folder(location: str, tokenizer: str | Path | None, *, name: str) -> FrozenCLIP:
    """A Hugging Face folder or hub name, every key accounted for."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # the key account below is ours, and stricter
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = CLIPModel.from_pretrained(location, output_loading_info=True, torch_dtype=torch.float32)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{location}: refused. Its weights ask to run or build something that no CLIP needs, or are damaged; nothing was "
            "run. Give a folder with model.safetensors"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        if Path(location).is_dir():
            raise CheckpointError(
                f"{location}: not a usable Hugging Face CLIP folder ({_first_line(error)})"
            ) from error
        raise LexisegError(
            f"CLIP weights '{location}' are neither a file, nor a folder, nor to be had from the Hugging Face hub "
            f"({_first_line(error)}). Choose: go online once (the hub keeps a copy) or point clip=PATH at local weights; "
            "or try clip=toy, a tiny CLIP that ships with lexiseg and knows only its toy world"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()
    model, report = loaded
    _check_report(location, report)
    words = Path(location) / KNOWN_WORDS
    known = frozenset(words.read_text().split()) if words.is_file() else None
    return FrozenCLIP(model, _tokenizer(tokenizer or location), source=name, known_words=known)


def _check_report(location: str, report: Mapping[str, object]) -> None:
    problems = {
        kind: sorted(str(key) for key in report.get(f"{kind}_keys", ()) if "position_ids" not in str(key))  # type: ignore[attr-defined]
        for kind in ("missing", "unexpected", "mismatched")
    }
    told = "; ".join(f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys)
    if told:
        raise CheckpointError(
            f"{location}: the weights are not the CLIP that its config.json describes. {told}"
        )


def _tokenizer(source: str | Path | None) -> TextTokenizer | None:
    if source is None:
        return None
    if str(source).endswith(".gz"):
        return openai_tokenizer(Path(source))
    return huggingface_tokenizer(str(source))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
