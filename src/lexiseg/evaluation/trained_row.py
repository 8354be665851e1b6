"""Trained checkpoints as rows of a benchmark's table: each under its own protocol, on the benchmark's data and words."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeGuard

from torch import nn

from lexiseg.checkpoints.program_folder import find_program
from lexiseg.checkpoints.run_checkpoint import trained_title
from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.clip.model import fingerprint
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import known_words
from lexiseg.types import ClassSplit


@dataclass(frozen=True, kw_only=True)
class TrainedChoice:
    """A checkpoint as a table's row asks for it.

    Attributes:
        checkpoint: As :meth:`~lexiseg.inference.pipeline.Pipeline.load` takes it.
        label: What the row is called; by default after the run.
        clip: Where its CLIP lies, if not where training found it.
    """

    checkpoint: str
    label: str = ""
    clip: str | None = None

    def __post_init__(self) -> None:
        """Name the row."""
        if not self.label:
            object.__setattr__(self, "label", trained_title(self.checkpoint))

    @classmethod
    def many(cls, entries: object) -> tuple["TrainedChoice", ...]:
        """From a path, or a list of paths and of plain values with the attributes' names.

        Raises:
            ConfigError: Something else.
        """
        known = [item.name for item in fields(cls)]
        chosen = []
        listed = [entries] if isinstance(entries, str) else entries
        for entry in listed if isinstance(listed, list) else [None]:
            values = {"checkpoint": entry} if isinstance(entry, str) else entry
            if not _is_choice(values, known):
                raise ConfigError(
                    "checkpoints: expected a list of paths, or of settings such as {checkpoint: runs/a/best.ckpt, label: a} "
                    f"with the keys {', '.join(known)}; got {entries!r}"
                )
            chosen.append(cls(**values))
        return tuple(chosen)

    def load(self, *, templates: str | None = None, device: str = "auto") -> "TrainedRow":
        """The row with its model.

        Args:
            templates: Other templates than in training.
            device: See :func:`~lexiseg.inference.devices.pick_device`.

        Raises:
            LexisegError: No such checkpoint, or one that cannot be opened.
        """
        pipeline = Pipeline.load(self.checkpoint, clip=self.clip, templates=templates, device=device)
        if pipeline.info is None:
            raise CheckpointError(
                f"{self.checkpoint}: says nothing of its training; expected a lexiseg checkpoint"
            )
        if isinstance(pipeline.model, nn.Module):
            pipeline.model.requires_grad_(False)  # torch's counter of operations stumbles over what may train
        return TrainedRow(self.label, self.checkpoint, pipeline, pipeline.info, _weights(self, pipeline))


@dataclass(frozen=True)
class TrainedRow:
    """A trained model, loaded once for all columns.

    Attributes:
        label: What the row is called.
        checkpoint: Where it came from.
        pipeline: The model with its CLIP, templates and protocol.
        info: Its description.
        fingerprint: Changes with its weights.
    """

    label: str
    checkpoint: str
    pipeline: Pipeline
    info: CheckpointInfo
    fingerprint: str

    def segmenter(
        self, column: str, classes: Sequence[str], words: Sequence[Sequence[str]], changes: Mapping[str, Any]
    ) -> Segmenter:
        """For the words of a benchmark, under the checkpoint's protocol.

        As ``lexiseg eval`` judges: classes bear the seen penalty on the very classes of training, and nowhere else.

        Args:
            column: The benchmark's name.
            classes: Of its data set, in label-id order.
            words: A group for each of them.
            changes: To the protocol.

        Raises:
            ConfigError: A setting that does not exist or that the model cannot be read by.
        """
        own = {} if tuple(classes) == self.info.split.classes else {"seen_penalty": 0.0}
        settings = {**self.pipeline.protocol.to_dict(), **own, **changes, "name": f"{column}/{self.label}"}
        pipeline = replace(self.pipeline, protocol=InferenceProtocol.from_dict(settings))
        return pipeline.segmenter(Vocabulary(tuple(map(tuple, words)), shared=True))

    def told(self, split: ClassSplit) -> dict[str, Any]:
        """What a report says of it, as plain values."""
        return {
            "checkpoint": self.checkpoint,
            "weights": self.fingerprint,
            "model": self.info.model,
            "trained_on": describe_training(self.info, split),
        }


def describe_training(info: CheckpointInfo, split: ClassSplit) -> dict[str, Any]:
    """What a checkpoint was trained on, and which of the judged classes it met there under the same name.

    ``known_words`` says for which of them a model that weighs known classes otherwise (FC-CLIP, ZegFormer) does so: whatever
    the case, and for synonyms too.

    Args:
        info: The checkpoint's description.
        split: What it is judged on.
    """
    trained = info.split
    labelled = trained.classes if trained.setting == "supervised" else trained.seen
    return {
        "split": trained.name,
        "setting": trained.setting,
        "same_classes": trained.classes == split.classes,
        "labelled": [name for name in split.classes if name in labelled],
        "not_labelled": [name for name in split.classes if name not in labelled],
        "known_words": list(known_words(Vocabulary.from_names(split.classes), trained, info.synonyms)),
    }


def _is_choice(values: object, known: Sequence[str]) -> TypeGuard[Mapping[str, str]]:
    """Whether plain values are texts under known names, a checkpoint among them."""
    if not isinstance(values, Mapping) or "checkpoint" not in values or not set(values) <= set(known):
        return False
    return all(isinstance(value, str) and value.strip() for value in values.values())


def _weights(choice: TrainedChoice, pipeline: Pipeline) -> str:
    """Of the trained weights; of a program's files, which hide theirs."""
    if isinstance(pipeline.model, nn.Module):
        return fingerprint(pipeline.model)
    folder = find_program(choice.checkpoint) or Path(choice.checkpoint)
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
