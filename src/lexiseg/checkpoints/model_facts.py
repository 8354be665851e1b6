"""What a model says about itself besides its settings: licences, training data, and scores as they were measured."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lexiseg.checkpoints.info import CheckpointInfo
from lexiseg.errors import CheckpointError

UNKNOWN_LICENSE = "unknown"


@dataclass(frozen=True)
class MeasuredScores:
    """Scores of one evaluation, and the rules they were measured by.

    Attributes:
        scores: ``seen``, ``unseen``, ``harmonic``, ``miou``, ``pixel_accuracy`` as fractions, where defined.
        protocol: Every setting between photograph and labels.
        split: Name of the split that says which classes count as unseen.
        dataset: What was scored; empty if the record does not say.
        images: How many; None if the record does not say.
        limited: Whether these are only the first images of the data set.
        measured_by: Which command made the record.
    """

    scores: dict[str, float]
    protocol: dict[str, Any]
    split: str
    dataset: str = ""
    images: int | None = None
    limited: bool = False
    measured_by: str = "lexiseg eval"


@dataclass(frozen=True)
class ModelFacts:
    """Licences, training data and scores of a published model.

    Attributes:
        license: Of the trained weights, as the hub spells it (``apache-2.0``); ``unknown`` unless somebody said.
        clip_license: Of the CLIP, likewise.
        measured: Its scores, or None.
        datasets: What it was trained on, as the hub spells it (``ORG/NAME``), where somebody said.
    """

    license: str = UNKNOWN_LICENSE
    clip_license: str = UNKNOWN_LICENSE
    measured: MeasuredScores | None = None
    datasets: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelFacts":
        """The inverse of :meth:`to_dict`; keys of a later version are left out.

        Raises:
            TypeError: The scores lack one of their parts.
        """
        known = {key: values[key] for key in ("license", "clip_license") if key in values}
        known["datasets"] = tuple(str(name) for name in values.get("datasets") or ())
        measured = values.get("measured")
        if measured is None:
            return cls(**known)
        parts = {item.name for item in fields(MeasuredScores)}
        return cls(
            **known, measured=MeasuredScores(**{key: measured[key] for key in measured if key in parts})
        )


def read_measured(checkpoint: Path, info: CheckpointInfo, step: int | None) -> MeasuredScores | None:
    """Scores of a checkpoint from the records that lie beside it.

    ``eval.json`` counts if it names this checkpoint; otherwise ``result.json`` of the training run, if it was written
    at the checkpoint's own step. Scores of another checkpoint are never taken.

    Args:
        checkpoint: The file.
        info: Its description.
        step: Optimiser steps it was trained for, if it says.

    Raises:
        CheckpointError: A record is damaged.
    """
    found = _read(checkpoint.parent / "eval.json")
    if found is not None and Path(str(found.get("checkpoint"))).name == checkpoint.name:
        return _of_evaluation(found)
    found = _read(checkpoint.parent / "result.json")
    if found is not None and step is not None and found.get("step") == step:
        return MeasuredScores(
            _defined(found["val"]),
            info.protocol,
            info.split.name,
            measured_by=f"validation at step {step} of training",
        )
    return None


def _of_evaluation(found: Mapping[str, Any]) -> MeasuredScores:
    # The data set's class, not its folder: paths of somebody's machine have no place in a published model.
    target = str((found.get("data") or {}).get("_target_", ""))
    return MeasuredScores(
        _defined(found["scores"]),
        dict(found["protocol"]),
        str(found["split"]["name"]),
        dataset=target.rpartition(".")[2],
        images=found.get("images"),
        limited=found.get("limit") is not None,
    )


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    needed = {"eval.json": ("scores", "protocol", "split"), "result.json": ("val",)}[path.name]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if any(not isinstance(found[key], dict) for key in needed):
            raise TypeError(f"expected a group of values in each of {', '.join(needed)}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: no readable record of scores ({error}); expected what lexiseg wrote there. Evaluate again, or move it "
            "away to go on without scores"
        ) from error
    return dict(found)


def _defined(scores: Mapping[str, Any]) -> dict[str, float]:
    """Scores that are numbers: a mean over no class is null in the record."""
    return {
        name: float(value) for name, value in scores.items() if value is not None and math.isfinite(value)
    }
