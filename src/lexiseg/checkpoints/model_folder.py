"""A trained model as one folder that needs nothing else: safetensors, JSON, and the CLIP it stands on.

    config.json                   settings, split, protocol, templates, the CLIP's name and fingerprint, facts
    model.safetensors             what was trained
    text_embeddings.safetensors   unit text embeddings of the split's classes
    clip/                         the frozen CLIP with its tokenizer, an ordinary Hugging Face folder
    README.md                     the model card

Nothing in it is code, and nothing in it is run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from torch import Tensor

from lexiseg import __version__
from lexiseg.checkpoints.files import (
    EMBEDDINGS,
    read_embeddings,
    read_object,
    read_tensors,
    write_embeddings,
    write_tensors,
)
from lexiseg.checkpoints.info import LIBRARY, CheckpointInfo, parse_info
from lexiseg.checkpoints.model_facts import ModelFacts
from lexiseg.clip.loading import TOY_CLIP, FrozenCLIP
from lexiseg.clip.saving import save_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.storage import leads_somewhere, write_json
from lexiseg.types import MaskModel

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CLIP_FOLDER = "clip"
FORMAT = 1

_BUNDLED = "bundled"
_DOWNLOADED = [
    CONFIG,
    WEIGHTS,
    EMBEDDINGS,
    "README.md",
    *(f"{CLIP_FOLDER}/*.{kind}" for kind in ("json", "safetensors", "txt")),
]
"""All that such a folder may hold: anything else on the hub, pickles above all, is not even downloaded."""

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WEIGHT_FILE = re.compile(r"\.(ckpt|pth?|pt2|bin|safetensors|onnx)$")
_EXPECTED = "a folder that `lexiseg export --to folder` or save_pretrained wrote"


@dataclass(frozen=True)
class ModelFolder:
    """What such a folder holds.

    Attributes:
        info: Its settings; ``clip`` names the CLIP's origin.
        state_dict: What was trained.
        facts: Licences and scores.
        clip: The CLIP's own folder in it; None if it only names its CLIP.
        embeddings: ``(K, D)`` of the split's classes, in order; None for a model without classes.
    """

    info: CheckpointInfo
    state_dict: dict[str, Tensor]
    facts: ModelFacts
    clip: Path | None
    embeddings: Tensor | None


def write_model_folder(
    folder: Path | str,
    model: MaskModel,
    clip: FrozenCLIP,
    info: CheckpointInfo,
    facts: ModelFacts,
    *,
    bundle_clip: bool = True,
) -> None:
    """Write everything but the model card; ``config.json`` comes last, so that half a folder is none.

    Args:
        folder: Made if it is not there; files of the same names are replaced.
        model: The trained model; its state dict is what was trained.
        clip: The CLIP it stands on, with its text tower.
        info: Settings, split, protocol.
        facts: Licences and scores.
        bundle_clip: Copy the CLIP into the folder; otherwise the folder only names it.

    Raises:
        ConfigError: The CLIP shall only be named, but is a file of this machine.
        LexisegError: The CLIP has no tokenizer, or the folder cannot be written to.
    """
    folder = Path(folder)
    described = info.to_dict()
    described["clip"] = _public_clip(info.clip, bundle=bundle_clip)
    if bundle_clip:
        save_clip(clip, folder / CLIP_FOLDER)
    write_tensors(folder / WEIGHTS, model.state_dict())
    if info.split.classes:
        vocabulary = Vocabulary.from_names(info.split.classes, info.templates)
        write_embeddings(folder, vocabulary.embed(clip).vectors)
    head = {"library_name": LIBRARY, "lexiseg_version": __version__}
    write_json({**head, **described, "format": FORMAT, "facts": facts.to_dict()}, folder / CONFIG)


def read_model_folder(folder: Path | str) -> ModelFolder:
    """Read such a folder; shapes are left to whoever builds the model.

    Raises:
        CheckpointError: No such folder, damaged, incomplete, or of a newer lexiseg.
    """
    folder = Path(folder)
    path = folder / CONFIG
    values = _read_config(path)
    try:
        clip = dict(values["clip"])
        bundled = clip.pop(_BUNDLED, False)
        info = parse_info(values | {"clip": clip}, path)
        facts = ModelFacts.from_dict(values.get("facts") or {})
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError) as error:
        told = (
            str(error) if isinstance(error, CheckpointError) else f"{path}: incomplete or damaged ({error!r})"
        )
        raise CheckpointError(
            f"{told} (written by lexiseg {values.get('lexiseg_version', 'unknown')}, this is {__version__})"
        ) from error
    if bundled and not (folder / CLIP_FOLDER / WEIGHTS).is_file():
        # Checked here, for transformers would look for a pickle instead.
        raise CheckpointError(f"{folder}: {CLIP_FOLDER}/{WEIGHTS} is missing; copy the whole folder again")
    state = read_tensors(folder / WEIGHTS, expected=_EXPECTED)
    embeddings = None
    if (folder / EMBEDDINGS).exists():
        embeddings = read_embeddings(folder, len(info.split.classes), expected=_EXPECTED)
    return ModelFolder(info, state, facts, folder / CLIP_FOLDER if bundled else None, embeddings)


def is_hub_name(name: Path | str) -> bool:
    """Whether ``name`` has the form ``ORG/NAME`` and is nothing on this disk, nor looks like a weight file."""
    text = str(name)
    return bool(_HUB_NAME.fullmatch(text)) and not _WEIGHT_FILE.search(text) and not leads_somewhere(text)


def download_model_folder(
    name: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: Path | str | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """Fetch such a folder from the Hugging Face hub, once; the hub's own cache keeps it.

    Args:
        name: ``ORG/NAME``.
        revision: Branch, tag or commit.
        token: As huggingface_hub takes it.
        cache_dir: Instead of the hub's usual cache.
        force_download: Fetch again what is there.
        local_files_only: Do not go online.

    Raises:
        CheckpointError: It is not to be had.
    """
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                allow_patterns=_DOWNLOADED,
            )
        )
    except Exception as error:  # the hub's client passes on whatever its HTTP library raises
        told = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"no such checkpoint: '{name}' is neither a file nor a folder, nor to be had from the Hugging Face hub ({told}); "
            f"expected a .ckpt file that lexiseg wrote, {_EXPECTED}, or the name of one on the hub"
        ) from error


def _public_clip(clip: Mapping[str, Any], *, bundle: bool) -> dict[str, Any]:
    """How a published folder names its CLIP: never by a path of this machine."""
    source = str(clip["source"])
    named = source == TOY_CLIP or is_hub_name(source)
    if bundle:
        told = source if named else Path(source).name
        return {"source": told, "fingerprint": clip["fingerprint"], _BUNDLED: True}
    tokenizer = clip.get("tokenizer")
    if not named or (tokenizer is not None and not is_hub_name(tokenizer)):
        raise ConfigError(
            f"the CLIP '{source if not named else tokenizer}' is a file of this machine, so a folder that only names it would "
            "be of no use elsewhere; leave the CLIP in the folder"
        )
    return {**clip, _BUNDLED: False}


def _read_config(path: Path) -> dict[str, Any]:
    values = read_object(path, expected=_EXPECTED)
    if values.get("library_name") != LIBRARY:
        raise CheckpointError(f"{path}: not of a lexiseg model; expected {_EXPECTED}")
    written = values.get("format")
    if written != FORMAT:
        raise CheckpointError(
            f"{path}: folder format {written} of lexiseg {values.get('lexiseg_version', 'unknown')}; this lexiseg "
            f"{__version__} reads {FORMAT}. Update lexiseg, or export the model again"
        )
    return values
