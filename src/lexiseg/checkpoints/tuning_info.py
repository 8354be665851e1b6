"""What the training state of a CLIP says of itself: it is no model to predict with, its result is a CLIP."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.checkpoints.training_file import PIXEL_CLIP_KEY, TUNINGS
from lexiseg.errors import CheckpointError

_FORMAT = 1


@dataclass(frozen=True)
class TuningInfo:
    """What a checkpoint says of itself. Plain values only.

    Attributes:
        model: The fields of the settings of what is trained.
        clip: ``source`` and ``fingerprint`` of the CLIP that is tuned.
    """

    model: dict[str, Any]
    clip: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dictionaries, text and numbers, readable with ``weights_only=True``."""
        model = {key: list(value) if isinstance(value, tuple) else value for key, value in self.model.items()}
        return {"format": _FORMAT, "model": model, "clip": self.clip}

    def require_same(self, other: "TuningInfo", path: Path | str) -> None:
        """Refuse a checkpoint of something else.

        Raises:
            CheckpointError: Of another model or another CLIP.
        """
        differences = self.differences(other)
        if differences:
            raise CheckpointError(
                f"{path} is of another model ({'; '.join(differences)}); use its settings or start a new run"
            )

    def differences(self, other: "TuningInfo") -> list[str]:
        """In what another description differs, each with both values."""
        mine, theirs = self.to_dict(), other.to_dict()
        told = [
            f"model.{key}: {mine['model'].get(key)}, now {theirs['model'].get(key)}"
            for key in sorted({*mine["model"], *theirs["model"]})
            if mine["model"].get(key) != theirs["model"].get(key)
        ]
        if mine["clip"].get("fingerprint") != theirs["clip"].get("fingerprint"):
            told.append(
                f"clip: {mine['clip'].get('source')} with fingerprint {mine['clip'].get('fingerprint')}, now "
                f"{theirs['clip'].get('source')} with {theirs['clip'].get('fingerprint')}"
            )
        return told


def read_tuning_info(
    checkpoint: Mapping[str, Any], path: Path | str, key: str = PIXEL_CLIP_KEY
) -> TuningInfo:
    """The description inside a loaded checkpoint, under one of :data:`~lexiseg.checkpoints.training_file.TUNINGS`.

    Raises:
        CheckpointError: It has none, a damaged one, or one of another format.
    """
    values = checkpoint.get(key)
    if not isinstance(values, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path}: not a checkpoint of `lexiseg {TUNINGS[key]}`; give the last.ckpt of such a run"
        )
    if values.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {values.get('format')}, this version reads {_FORMAT}; update lexiseg or train again"
        )
    model, clip = values.get("model"), values.get("clip")
    if not isinstance(model, dict) or not isinstance(clip, dict):
        raise CheckpointError(f"{path}: its description cannot be used; train again")
    return TuningInfo(model, clip)
