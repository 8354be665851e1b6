"""Judge a checkpoint on a labelled data set, with the whole protocol beside the score."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from lexiseg.checkpoints.model_folder import is_hub_name
from lexiseg.checkpoints.run_checkpoint import checkpoint_of
from lexiseg.checkpoints.word_adaptation import require_adaptation_file
from lexiseg.clip.templates import resolve_templates
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.evaluation.evaluate import EvaluationReport, evaluate
from lexiseg.evaluation.evaluate_segments import SegmentReport, evaluate_segments
from lexiseg.evaluation.naming import NAMING_PROTOCOL
from lexiseg.evaluation.trained_row import describe_training
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segment_finding import SegmentKind, require_kind
from lexiseg.recipes.conf_files import TARGET, own_class
from lexiseg.recipes.naming_masks import Masks, open_masks, require_masks
from lexiseg.recipes.run_folder import RECORD_FILE
from lexiseg.recipes.settings import SplitSettings, require_changes, require_limit
from lexiseg.storage import leads_somewhere, require_file_place
from lexiseg.types import ClassSplit, SegmentationDataset


@dataclass(frozen=True)
class Evaluation:
    """What to judge, on what, and what shall differ from the checkpoint's own settings.

    Attributes:
        checkpoint: As :func:`~lexiseg.inference.pipeline.Pipeline.load` takes it.
        dataset: Photographs and labels.
        split: Its classes, and which were seen.
        clip: Where the CLIP weights lie, if not where training found them.
        templates: Other templates than in training; a set's name, or templates with ``{}`` in each.
        protocol: Changes to the checkpoint's protocol.
        limit: Only the first so many images.
        device: See :func:`~lexiseg.inference.devices.pick_device`.
        data: What the report shall say of the data set, plain values.
        segments: Judge segments instead of pixels: ``panoptic`` or ``instances``.
        stuff: Names of the classes that are not counted one by one, for segments; None: as the data set says.
        masks: Give the model these, and judge the names alone; see :mod:`~lexiseg.recipes.naming_masks`.
        adapted: A file that ``lexiseg adapt`` wrote for this checkpoint.
    """

    checkpoint: Path | str
    dataset: SegmentationDataset
    split: ClassSplit
    clip: str | None = None
    templates: str | list[str] | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    device: str = "auto"
    data: Mapping[str, Any] = field(default_factory=dict)
    segments: SegmentKind | None = None
    stuff: Sequence[str] | None = None
    masks: Masks = None
    adapted: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be judged by before a weight is read."""
        require_limit(self.limit)
        require_changes(self.protocol)
        require_masks(self.masks)
        require_adaptation_file(self.adapted)
        require_kind(self.segments, self.stuff)
        if self.segments is not None and self.masks is not None:
            raise ConfigError(
                "masks are judged by their names alone, segments are what the model finds itself; leave out masks or segments"
            )
        if self.templates is not None:
            resolve_templates(self.templates)


def judge(task: Evaluation) -> EvaluationReport | SegmentReport:
    """Evaluate a checkpoint on the classes of the data given.

    Raises:
        CheckpointError: Unsafe, damaged, or silent on its training.
        ConfigError: A protocol key that does not exist, or data that the split does not fit.
    """
    pipeline = Pipeline.load(task.checkpoint, clip=task.clip, device=task.device, adapted=task.adapted)
    info = pipeline.info
    if info is None:
        raise CheckpointError(
            f"{task.checkpoint}: says nothing of its training; expected a lexiseg checkpoint"
        )
    judged = (_changed(pipeline, task).segmenter(task.split), task.dataset, task.split)
    context = {
        "checkpoint": str(task.checkpoint),
        "model": info.model,
        "clip": info.clip,
        "trained_on": describe_training(info, task.split),
        "data": task.data,
        **({} if task.adapted is None else {"adapted": str(task.adapted)}),
    }
    if task.segments is None:
        masks = open_masks(task.masks, task.device)
        return evaluate(*judged, limit=task.limit, context=context, masks=masks)
    return evaluate_segments(*judged, task.segments, stuff=task.stuff, limit=task.limit, context=context)


def _changed(pipeline: Pipeline, task: Evaluation) -> Pipeline:
    """With the protocol's settings and the templates that the task names in place of its own."""
    own = pipeline.protocol.to_dict() | ({} if task.masks is None else dict(NAMING_PROTOCOL))
    protocol = InferenceProtocol.from_dict(own | dict(task.protocol))
    templates = tuple(task.templates) if isinstance(task.templates, list) else task.templates
    return replace(pipeline, protocol=protocol, templates=templates or pipeline.templates)


def data_of_run(checkpoint: Path | str) -> dict[str, Any] | None:
    """``data`` and ``split`` of the run whose folder a checkpoint lies in, as its record has them; None where there is none.

    A run folder may come from anyone, so only our own classes are opened by its word
    (:func:`~lexiseg.recipes.conf_files.own_class`), and a value that a configuration would compute is refused.

    Raises:
        ConfigError: No path; or the record names another class, or cannot be read.
    """
    if not isinstance(checkpoint, str | Path):
        raise ConfigError(f"checkpoint: expected a path or a name on the hub, got {checkpoint!r}")
    checkpoint = checkpoint_of(checkpoint)
    record = Path(checkpoint).parent / RECORD_FILE
    if not Path(checkpoint).is_file() or not record.is_file():
        return None
    try:
        told = yaml.safe_load(record.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{record}: damaged; say which data to judge on: data=… split=…") from error
    if not isinstance(told, dict) or not all(isinstance(told.get(key), dict) for key in ("data", "split")):
        return None
    val = told["data"].get("val")
    if (
        not isinstance(val, dict) or "name" not in told
    ):  # a run from Python tells of its data sets, but not how to open them
        return None
    split = {
        item.name: told["split"][item.name] for item in fields(SplitSettings) if item.name in told["split"]
    }
    foreign = [target for target in _targets([val, split]) if target is not val.get(TARGET)]
    own = own_class(val.get(TARGET))
    if own is None:
        foreign.append(str(val.get(TARGET)))
    if foreign or "${" in json.dumps([val, split], default=str):
        raise ConfigError(
            f"{record}: the run's data are read by {', '.join(foreign) or 'a computed value'}, which is none of lexiseg's own; "
            "nothing was run. Say which data to judge on: data=… split=…"
        )
    return {"data": {"val": val | {TARGET: own}}, "split": split}


def _targets(record: Any) -> Iterator[str]:
    """Every class that a record would have built, however deep it stands."""
    if isinstance(record, Mapping):
        if TARGET in record:
            yield record[TARGET]
        record = list(record.values())
    if isinstance(record, list):
        for item in record:
            yield from _targets(item)


def report_place(
    output: object,
    checkpoint: Path | str,
    segments: object = None,
    masks: object = None,
    adapted: object = None,
) -> Path:
    """The result file that was asked for, or the default one; segments, names of masks and adaptations have their own.

    Raises:
        ConfigError: No path, or no kind of segments.
        LexisegError: It cannot be written.
    """
    if output is not None and (not isinstance(output, str | Path) or not str(output).strip()):
        raise ConfigError(f"output: expected the path of a result file, got {output!r}")
    place = default_output(checkpoint) if output is None else Path(output)
    if output is None and segments is not None:
        require_kind(segments, None)
        place = place.with_name(f"{place.stem}_{segments}.json")
    elif output is None and masks is not None:
        place = place.with_name(f"{place.stem}_masks.json")
    if output is None and adapted is not None:
        place = place.with_name(f"{place.stem}_adapted.json")
    if output is not None or leads_somewhere(
        place.parent
    ):  # else the checkpoint is missing, which is told later
        require_file_place(place, "output")
    return place


def default_output(checkpoint: Path | str) -> Path:
    """Beside a checkpoint; beside, not in, a published folder; in the present folder for one of the hub."""
    path = Path(checkpoint_of(checkpoint))
    if is_hub_name(checkpoint):
        return Path(f"{path.name}.eval.json")
    return (
        path.resolve().with_name(f"{path.resolve().name}.eval.json")
        if path.is_dir()
        else path.parent / "eval.json"
    )
