"""A training checkpoint: how one is read without running anything from it, and what is refused."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lexiseg.checkpoints.info import FORMAT, CheckpointInfo, parse_info
from lexiseg.checkpoints.run_checkpoint import checkpoint_of
from lexiseg.errors import CheckpointError
from lexiseg.keys import check_keys
from lexiseg.models.registry import complete_settings
from lexiseg.types import MaskModel

CHECKPOINT_KEY = "lexiseg"
"""Where the description stands in a checkpoint, beside Lightning's own entries."""

PIXEL_CLIP_KEY = "lexiseg_pixelclip"
"""The same in a checkpoint of PixelCLIP, which is no model to predict with: its result is a CLIP."""

ADAPTATION_KEY = "lexiseg_adapt"
"""The same in a checkpoint of `lexiseg maskadapt`."""

TUNINGS = {PIXEL_CLIP_KEY: "pixelclip", ADAPTATION_KEY: "maskadapt"}
"""Where the description of a CLIP in training stands, and which command trains it."""

_OTHER_KINDS = (".yaml", ".yml", ".json", ".csv", ".txt", ".md", ".png", ".jpg", ".jpeg", ".safetensors")
"""Files beside checkpoints that somebody may give in the place of one."""

MODEL_PREFIX = "model."
"""Prefix of the mask model's tensors in a training checkpoint's ``state_dict``."""

TEACHER_PREFIX = "teacher."
"""Prefix of a self-training teacher's tensors there: needed to go on training, not to use the model."""


def load_tensors_only(
    path: Path | str,
    map_location: str | torch.device = "cpu",
    *,
    expected: str = "a .ckpt file that lexiseg wrote",
) -> dict[str, Any]:
    """Read a checkpoint of tensors and plain values; code inside it is refused, not run.

    Args:
        path: The file.
        map_location: Where its tensors go.
        expected: What the messages say was expected.

    Raises:
        CheckpointError: Missing, damaged, or holding anything but tensors and plain values.
    """
    if not Path(path).is_file():
        what = "a folder, no checkpoint" if Path(path).is_dir() else "no such checkpoint"
        raise CheckpointError(f"{path}: {what}; expected {expected}{_beside(path)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # torch's, of a pickle that it may not know; ours says more
            loaded = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        _require_weights(path, expected)
        raise CheckpointError(
            f"{path}: refused. The file asks to run or build something that no checkpoint needs, or is damaged; nothing "
            f"from it was run. Expected {expected}"
        ) from error
    # Bytes that are no pickle trip torch's reader in any way: an empty stack, a missing attribute, a bad code.
    except Exception as error:
        _require_weights(path, expected)
        told = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"{path}: damaged or no checkpoint ({told}); expected {expected}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected a checkpoint dictionary, got {type(loaded).__name__}")
    return loaded


def _require_weights(path: Path | str, expected: str) -> None:
    """Refuse a file that its own name calls another kind, such as a run's config.yaml.

    Raises:
        CheckpointError: Says what to give instead.
    """
    kind = Path(path).suffix.lower()
    if kind in _OTHER_KINDS:
        raise CheckpointError(f"{path}: a {kind} file, no checkpoint; expected {expected}{_beside(path)}")


def _beside(path: Path | str) -> str:
    """The checkpoint of the run in whose folder, or in whose pictures' folder, something else was named."""
    for folder in (Path(path), *Path(path).parents[:2]):
        found = checkpoint_of(folder)
        if found != folder:
            return f", such as {found}"
    return ""


def read_step(path: Path | str) -> int:
    """Optimiser steps behind a checkpoint that Lightning wrote; its tensors are not read."""
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def read_info(checkpoint: Mapping[str, Any], path: Path | str) -> CheckpointInfo:
    """The description inside a loaded checkpoint.

    Raises:
        CheckpointError: It has none, or one of a newer format.
    """
    tuned = [name for key, name in TUNINGS.items() if key in checkpoint]
    if tuned:
        raise CheckpointError(
            f"{path}: the training state of `lexiseg {tuned[0]}`, not a mask model; what it trained is a CLIP, the folder "
            "clip of the same run: give that as the CLIP"
        )
    values = checkpoint.get(CHECKPOINT_KEY)
    if not isinstance(values, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path}: not a lexiseg checkpoint (it holds {', '.join(map(str, list(checkpoint)[:4])) or 'nothing'}); "
            "give the last.ckpt or best.ckpt of a training run, or turn a released .pth into one with `lexiseg import`"
        )
    if values.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {values.get('format')}, this version reads {FORMAT}; update lexiseg or train again"
        )
    return parse_info(values, path)


def load_weights(model: MaskModel, state_dict: Mapping[str, Tensor], path: Path | str) -> None:
    """Put a training checkpoint's weights into ``model``, every key accounted for.

    Raises:
        CheckpointError: Names every missing, unknown or wrongly shaped tensor.
    """
    check_tensors(state_dict, path)
    found = {
        name.removeprefix(MODEL_PREFIX): tensor
        for name, tensor in state_dict.items()
        if not name.startswith(TEACHER_PREFIX)
    }
    check_keys(_shapes(model.state_dict()), _shapes(found), what=f"model ({path})")
    model.load_state_dict(found)


def with_present_names(state_dict: Any) -> Any:
    """A training state whose teacher was saved as ``teacher.model``, under today's names; anything else as it is."""
    if not isinstance(state_dict, Mapping):
        return state_dict
    old, new = f"{TEACHER_PREFIX}model.", f"{TEACHER_PREFIX}average."
    return {
        new + name[len(old) :] if isinstance(name, str) and name.startswith(old) else name: value
        for name, value in state_dict.items()
    }


def check_resumable(checkpoint: Mapping[str, Any], state: Mapping[str, Tensor], path: Path | str) -> None:
    """Compare what a checkpoint to resume from holds with the state of the training task at hand.

    Raises:
        CheckpointError: Names every missing, unknown or wrongly shaped tensor.
    """
    found = checkpoint["state_dict"]
    check_tensors(found, path)
    check_keys(_shapes(state), _shapes(found), what=f"training state ({path})")


def check_tensors(state_dict: Any, path: Path | str) -> None:
    """Refuse weights that are no dictionary of named tensors.

    Raises:
        CheckpointError: Names the first entry that is none.
    """
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(
            f"{path}: its state_dict is a {type(state_dict).__name__}; expected named tensors"
        )
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: '{name}' in its state_dict is a {type(value).__name__}; expected named tensors"
            )
        if value.layout != torch.strided or value.is_complex():
            raise CheckpointError(
                f"{path}: '{name}' in its state_dict is a tensor of {value.layout} {value.dtype}; expected dense real numbers"
            )


def check_same(info: CheckpointInfo, *, model: Mapping[str, Any], fingerprint: str, path: Path | str) -> None:
    """Refuse a checkpoint of another model or of another CLIP than the one at hand.

    Raises:
        CheckpointError: Says which settings differ.
    """
    if info.clip["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{path} was trained on the CLIP '{info.clip['source']}' (fingerprint {info.clip['fingerprint']}), but the one "
            f"loaded has fingerprint {fingerprint}; give the same CLIP weights as clip"
        )
    was, now = complete_settings(info.model), complete_settings(model)
    different = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
    if different:
        told = "; ".join(f"{key}: checkpoint {was.get(key)}, now {now.get(key)}" for key in different)
        raise CheckpointError(
            f"{path} is a checkpoint of another model ({told}); use its settings or start a new run"
        )


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
