"""What a lexiseg checkpoint says about itself, and how one is read without running anything from it."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lexiseg.clip.convert import check_keys
from lexiseg.errors import CheckpointError
from lexiseg.models.cascade_clip import CascadeCLIP
from lexiseg.models.registry import complete_settings
from lexiseg.types import ClassSplit

CHECKPOINT_KEY = "lexiseg"
"""Where the description stands in a checkpoint, beside Lightning's own entries."""

FORMAT = 1
MODEL_PREFIX = "model."
"""Prefix of the mask model's tensors in a training checkpoint's ``state_dict``."""

TEACHER_PREFIX = "teacher."
"""Prefix of a self-training teacher's tensors there: needed to go on training, not to use the model."""


@dataclass(frozen=True)
class CheckpointInfo:
    """Everything besides weights that is needed to use a trained model. Plain values only.

    Attributes:
        model: Name and settings, for :func:`lexiseg.models.registry.build_model`.
        clip: ``source``, ``fingerprint`` and how the CLIP was loaded (``tokenizer``, ``activation``, heads).
        templates: Prompt templates it was trained with.
        split: Classes, unseen names and setting it was trained on.
        protocol: Inference protocol it was validated with.
    """

    model: dict[str, Any]
    clip: dict[str, Any]
    templates: tuple[str, ...]
    split: ClassSplit
    protocol: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dictionaries, text and numbers, readable with ``weights_only=True``."""
        split = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.split).items()
        }
        return {
            "format": FORMAT,
            "model": self.model,
            "clip": self.clip,
            "templates": list(self.templates),
            "split": split,
            "protocol": self.protocol,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CheckpointInfo":
        """The inverse of :meth:`to_dict`."""
        split = dict(values["split"])
        split["classes"], split["unseen"] = tuple(split["classes"]), tuple(split["unseen"])
        return cls(
            dict(values["model"]),
            dict(values["clip"]),
            tuple(values["templates"]),
            ClassSplit(**split),
            dict(values["protocol"]),
        )


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
        raise CheckpointError(f"{path}: no such checkpoint; expected {expected}")
    try:
        loaded = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused. The file asks to run or build something that no checkpoint needs, or is damaged; nothing "
            f"from it was run. Expected {expected}"
        ) from error
    # Bytes that are no pickle trip torch's reader in any way: an empty stack, a missing attribute, a bad code.
    except Exception as error:
        told = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(f"{path}: damaged or no checkpoint ({told}); expected {expected}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected a checkpoint dictionary, got {type(loaded).__name__}")
    return loaded


def read_info(checkpoint: Mapping[str, Any], path: Path | str) -> CheckpointInfo:
    """The description inside a loaded checkpoint.

    Raises:
        CheckpointError: It has none, or one of a newer format.
    """
    values = checkpoint.get(CHECKPOINT_KEY)
    if not isinstance(values, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path}: not a lexiseg checkpoint (it holds {', '.join(map(str, list(checkpoint)[:4])) or 'nothing'}); "
            "give the last.ckpt or best.ckpt of a training run"
        )
    if values.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {values.get('format')}, this version reads {FORMAT}; update lexiseg or train again"
        )
    try:
        return CheckpointInfo.from_dict(values)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its description is incomplete ({error}); train again") from error


def load_weights(model: CascadeCLIP, state_dict: Mapping[str, Tensor], path: Path | str) -> None:
    """Put a training checkpoint's weights into ``model``, every key accounted for.

    Raises:
        CheckpointError: Names every missing, unknown or wrongly shaped tensor.
    """
    found = {
        name.removeprefix(MODEL_PREFIX): tensor
        for name, tensor in state_dict.items()
        if not name.startswith(TEACHER_PREFIX)
    }
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_keys(expected, {name: tuple(t.shape) for name, t in found.items()}, what=f"model ({path})")
    model.load_state_dict(found)


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
