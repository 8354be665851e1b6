"""A trained model from wherever it lies: a training file, a folder, the hub, an exported program."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from lexiseg.checkpoints.model_facts import ModelFacts
from lexiseg.checkpoints.model_folder import (
    CONFIG,
    ModelFolder,
    download_model_folder,
    is_hub_name,
    read_model_folder,
)
from lexiseg.checkpoints.program_folder import find_program
from lexiseg.checkpoints.run_checkpoint import CHECKPOINTS, checkpoint_of
from lexiseg.checkpoints.training_file import (
    CheckpointInfo,
    check_same,
    load_tensors_only,
    load_weights,
    read_info,
)
from lexiseg.clip.loading import FrozenCLIP, load_clip
from lexiseg.errors import CheckpointError
from lexiseg.inference.devices import pick_device
from lexiseg.inference.exported import ClipOnDemand, open_program
from lexiseg.models.registry import build_model
from lexiseg.types import Segmentable

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, ready to run, and what came with it.

    Attributes:
        model: On its device.
        clip: The CLIP it stands on.
        info: The checkpoint's description.
        facts: Licences and scores that came with a published model.
        embeddings: ``(K, D)`` of the classes of ``info.split``, where they came with it.
    """

    model: Segmentable
    clip: FrozenCLIP
    info: CheckpointInfo
    facts: ModelFacts = field(default_factory=ModelFacts)
    embeddings: Tensor | None = None


@dataclass(frozen=True)
class _Stored:
    """A trained model as a file or folder holds it, before anything is built."""

    info: CheckpointInfo
    state_dict: Mapping[str, Tensor]
    clip: dict[str, Any]
    facts: ModelFacts = field(default_factory=ModelFacts)
    embeddings: Tensor | None = None


def load_trained_model(
    path: Path | str, *, clip: str | None, tokenizer: str | None, device: str, trusted: bool = False
) -> TrainedModel:
    """A trained model from its checkpoint; arguments and errors as in :meth:`lexiseg.Pipeline.load`."""
    program = find_program(path)
    if program is not None:
        return _load_program(program, clip=clip, tokenizer=tokenizer, device=device, trusted=trusted)
    chosen = checkpoint_of(path)
    if chosen != path:
        _log.warning("%s is the folder of a run: taking its %s", path, Path(chosen).relative_to(path))
        path = chosen
    stored = _read_stored(path)
    where = pick_device(device)  # a mistake shows before a CLIP is loaded
    info = stored.info
    frozen = _load_same_clip(info, stored.clip, path, clip=clip, tokenizer=tokenizer)
    model = build_model(info.model, frozen.tower)
    load_weights(model, stored.state_dict, path)
    model.eval().to(where)
    return TrainedModel(model, frozen.to(where), info, stored.facts, stored.embeddings)


def _load_program(
    folder: Path, *, clip: str | None, tokenizer: str | None, device: str, trusted: bool
) -> TrainedModel:
    """An exported program; its CLIP is loaded when a word needs it that did not come along."""
    model, card, embeddings = open_program(folder, device, trusted=trusted)
    info = card.info
    on_demand = ClipOnDemand(
        lambda: _load_same_clip(info, _clip_settings(info), folder, clip=clip, tokenizer=tokenizer),
        source=clip or info.clip["source"],
        fingerprint=info.clip["fingerprint"],
        known=info.split.classes,
    )
    return TrainedModel(model, cast(FrozenCLIP, on_demand), info, embeddings=embeddings)


def _load_same_clip(
    info: CheckpointInfo,
    settings: Mapping[str, Any],
    path: Path | str,
    *,
    clip: str | None,
    tokenizer: str | None,
) -> FrozenCLIP:
    """The CLIP of a trained model, from another place where one is given."""
    given = {"source": clip, "tokenizer": tokenizer}
    frozen = load_clip(**{**settings, **{key: value for key, value in given.items() if value is not None}})
    check_same(info, model=info.model, fingerprint=frozen.fingerprint, path=path)
    return frozen


def _read_stored(path: Path | str) -> _Stored:
    if is_hub_name(path):
        return _of_folder(read_model_folder(download_model_folder(str(path))))
    if Path(path).is_dir():
        if not (Path(path) / CONFIG).is_file():
            raise CheckpointError(
                f"{path}: no model in this folder; expected a run's folder, with {' or '.join(CHECKPOINTS)} in it, or a folder "
                "that `lexiseg export --to folder` or save_pretrained wrote"
            )
        return _of_folder(read_model_folder(path))
    checkpoint = load_tensors_only(path)
    info = read_info(checkpoint, path)
    return _Stored(info, checkpoint["state_dict"], _clip_settings(info))


def _of_folder(folder: ModelFolder) -> _Stored:
    clip = _clip_settings(folder.info) if folder.clip is None else {"source": str(folder.clip)}
    return _Stored(folder.info, folder.state_dict, clip, folder.facts, folder.embeddings)


def _clip_settings(info: CheckpointInfo) -> dict[str, Any]:
    """What :func:`load_clip` takes."""
    return {key: value for key, value in info.clip.items() if key != "fingerprint"}
