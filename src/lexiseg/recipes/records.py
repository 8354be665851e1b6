"""From a record to a run: groups become settings, and what carries a ``_target_`` becomes its object.

A record is what a configuration composes to and a run folder keeps in config.yaml: plain dictionaries, lists, values. The only
place that builds objects from their names. Only data carry a ``_target_``: data sets, and what turns them into batches. Only
our own classes are built.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, cast

import torch

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.data.mask_datamodule import MaskDataModule
from lexiseg.errors import ConfigError, LexisegError, did_you_mean
from lexiseg.evaluation.benchmark import Benchmark
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.masks.store import MaskStore
from lexiseg.models.mask_adaptation import AdaptationSettings
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.recipes.benchmark import BenchmarkRun, printed_in, rows_of_table, table_rows
from lexiseg.recipes.conf_files import TARGET, own_class
from lexiseg.recipes.criteria import loss_settings
from lexiseg.recipes.demo import Stage
from lexiseg.recipes.evaluate import Evaluation
from lexiseg.recipes.mask_adaptation import AdaptRun, PairSettings
from lexiseg.recipes.naming_masks import open_masks, require_masks
from lexiseg.recipes.pixelclip import PictureSettings, TuneRun
from lexiseg.recipes.run_folder import require_output_dir, require_run_name
from lexiseg.recipes.settings import (
    CheckpointSettings,
    ClipSource,
    SplitSettings,
    TrainerSettings,
    TrainingData,
    ValidationSettings,
    known_settings,
)
from lexiseg.recipes.superpixels import make_superpixels
from lexiseg.recipes.trainer import trainer_arguments
from lexiseg.recipes.training import TrainRun
from lexiseg.storage import leads_somewhere
from lexiseg.training.optim import OptimSettings
from lexiseg.training.self_training import SelfTrainingSettings
from lexiseg.types import ClassSplit, SegmentationDataset

Record = Mapping[str, Any]
Tell = Callable[[str], None]

SUPERPIXELS = "superpixels"
"""``masks=superpixels``: made before the first step."""

_RUN_KEYS = (
    "name",
    "output_dir",
    "clip",
    "model",
    "optim",
    "trainer",
    "checkpoint",
    "seed",
    "resume",
    "logger",
)
_TRAINING_KEYS = (
    *_RUN_KEYS, "data", "split", "loss", "protocol", "self_training", "validation", "templates", "init_from",
)  # fmt: skip
_TUNING_KEYS = (*_RUN_KEYS, "mask_data", "masks", "pictures")
_ADAPTING_KEYS = (*_RUN_KEYS, "pairs", "templates")
_JUDGING_KEYS = (
    "checkpoint",
    "clip",
    "templates",
    "limit",
    "device",
    "masks",
    "adapted",
    "segments",
    "stuff",
)
_TRAINER_KEYS = (
    "max_steps",
    "accelerator",
    "devices",
    "precision",
    "accumulate_grad_batches",
    "strategy",
    "published_batch",
)
_log = logging.getLogger(__name__)


def training_run(record: Record, tell: Tell = _log.info) -> TrainRun:
    """The run that a record of ``conf/train.yaml`` describes; its settings are read before its data are opened.

    Args:
        record: With every key of the root; it becomes the run's own record.
        tell: Takes a sentence about the run's progress.

    Raises:
        LexisegError: A setting that does not exist, a bad value, or data that are not there.
    """
    _require_keys(record, "train", *_TRAINING_KEYS)
    require_run_name(record["name"])
    require_output_dir(record["output_dir"])
    settings: dict[str, Any] = {
        "clip": known_settings(ClipSource, record["clip"], "clip"),
        "split": known_settings(SplitSettings, record["split"], "split"),
        "loss": loss_settings(record["loss"]),
        "optim": known_settings(OptimSettings, record["optim"], "optim"),
        "protocol": InferenceProtocol.from_dict(record["protocol"]),
        "self_training": known_settings(SelfTrainingSettings, record["self_training"], "self_training"),
        "trainer": _trainer(record["trainer"]),
        "validation": known_settings(ValidationSettings, record["validation"], "validation"),
        "checkpoint": known_settings(CheckpointSettings, record["checkpoint"], "checkpoint"),
    }
    same = ("model", "templates", "seed", "resume", "init_from")
    data = dict(record["data"])
    if data.get("seed") == record["seed"]:
        data["seed"] = None  # the run's, also where Python changes that
    return TrainRun(
        data=open_training_data(data),
        output_dir=Path(record["output_dir"]),
        wandb=_wandb(record["logger"]),
        record=record,
        tell=tell,
        **settings,
        **{key: record[key] for key in same},
        backbone_weights=record.get("backbone_weights"),  # of before there were any
    )


def tuning_run(record: Record, tell: Tell = _log.info) -> TuneRun:
    """The run that a record of ``conf/pixelclip.yaml`` describes, ``images`` and ``masks`` placed.

    Args:
        record: With every key of the root; it becomes the run's own record.
        tell: Takes a sentence about the run's progress.

    Raises:
        ConfigError: A setting that does not exist, or a bad value.
    """
    _require_keys(record, "pixelclip", *_TUNING_KEYS)
    require_run_name(record["name"])
    require_output_dir(record["output_dir"])
    _require_photographs(record["mask_data"])
    return TuneRun(
        open_data=lambda: _open_photographs(record, tell),
        output_dir=Path(record["output_dir"]),
        clip=known_settings(ClipSource, record["clip"], "clip"),
        model=known_settings(PixelCLIPSettings, record["model"], "model"),
        optim=known_settings(PixelCLIPOptimSettings, record["optim"], "optim"),
        trainer=_trainer(record["trainer"]),
        checkpoint=known_settings(CheckpointSettings, record["checkpoint"], "checkpoint"),
        pictures=known_settings(PictureSettings, record["pictures"], "pictures"),
        seed=record["seed"],
        resume=record["resume"],
        wandb=_wandb(record["logger"]),
        record=record,
        tell=tell,
    )


def adaptation_run(record: Record, tell: Tell = _log.info) -> AdaptRun:
    """The run that a record of ``conf/maskadapt.yaml`` describes; its data set to be judged on is opened, where there is one.

    Args:
        record: With every key of the root; it becomes the run's own record.
        tell: Takes a sentence about the run's progress.

    Raises:
        LexisegError: A setting that does not exist, a bad value, or labelled data that are not there.
    """
    _require_keys(record, "maskadapt", *_ADAPTING_KEYS)
    require_run_name(record["name"])
    require_output_dir(record["output_dir"])
    return AdaptRun(
        pairs=known_settings(PairSettings, record["pairs"], "pairs"),
        output_dir=Path(record["output_dir"]),
        clip=known_settings(ClipSource, record["clip"], "clip"),
        model=known_settings(AdaptationSettings, record["model"], "model"),
        templates=record["templates"],
        optim=known_settings(OptimSettings, record["optim"], "optim"),
        trainer=_trainer(record["trainer"]),
        checkpoint=known_settings(CheckpointSettings, record["checkpoint"], "checkpoint"),
        judged_on=_judged_on(record.get("data")),
        seed=record["seed"],
        resume=record["resume"],
        wandb=_wandb(record["logger"]),
        record=record,
        tell=tell,
    )


def evaluation(record: Record) -> Evaluation:
    """What a record of ``conf/eval.yaml`` asks for, its data set opened.

    Raises:
        LexisegError: Data that is not there, or that the split does not fit.
    """
    dataset = _dataset(record["data"]["val"])
    return Evaluation(
        dataset=dataset,
        split=known_settings(SplitSettings, record["split"], "split").of(dataset.classes),
        protocol=record["protocol"] or {},
        data=record["data"]["val"],
        **{key: record[key] for key in _JUDGING_KEYS},
    )


def benchmark(record: Record) -> Benchmark:
    """One file of ``conf/benchmark``, its data set opened.

    Raises:
        LexisegError: Data that is not there, or no such list of words.
    """
    dataset = _dataset(record["data"])
    methods: Mapping[str, Record] = record["methods"]
    lists = {record["words"], *(own["words"] for own in methods.values() if "words" in own)}
    words = {key: builtin_classes(key) for key in lists if key is not None}
    default = words[record["words"]] if record["words"] else getattr(dataset, "words", None)
    groups = default or tuple((label,) for label in dataset.classes)
    return Benchmark(
        name=record["name"],
        dataset=dataset,
        words={None: groups, **words},
        protocol=record["protocol"],
        methods=methods,
        training=_training_of(record["data"]),
    )


def demo_stage(record: Record) -> Stage:
    """What the rows of a demonstration are judged on: the validation data and the CLIP of a record of ``conf/train.yaml``.

    Raises:
        LexisegError: What the data layer found wrong, or a CLIP that cannot be loaded.
    """
    split, data = open_split_and_data(record)
    clip = known_settings(ClipSource, record["clip"], "clip").load()
    return Stage(data.val, split, clip, record["templates"], InferenceProtocol.from_dict(record["protocol"]))


def require_benchmark(record: Record) -> None:
    """Refuse a record of ``conf/benchmark.yaml`` whose rows, masks or output cannot be, before anything is opened.

    Raises:
        LexisegError: An unknown method, two rows of one label, no such masks, or a place that cannot be written to.
    """
    table_rows(_methods(record), record["checkpoints"])
    require_masks(record["masks"])
    require_output_dir(record["output"], "output")


def benchmark_run(record: Record, benchmarks: Sequence[Benchmark], device: torch.device) -> BenchmarkRun:
    """The run that a record of ``conf/benchmark.yaml`` describes, its CLIP and trained models loaded.

    Args:
        record: With every key of the root.
        benchmarks: The table's columns, opened.
        device: Where the CLIP goes.

    Raises:
        LexisegError: An unknown method, or a CLIP or checkpoint that cannot be loaded.
    """
    require_benchmark(record)
    methods, checkpoints = table_rows(_methods(record), record["checkpoints"])
    masks = open_masks(record["masks"], str(device))
    source = known_settings(ClipSource, record["clip"], "clip")
    trained = [choice.load(templates=record["templates"], device=str(device)) for choice in checkpoints]
    clip = source.load(pooled=False).to(device) if methods else None
    same = ("templates", "limit", "images_per_batch", "compile")
    return BenchmarkRun(
        methods,
        benchmarks,
        clip,
        Path(record["output"]),
        protocol=record["protocol"] or {},
        trained=trained,
        masks=masks,
        printed=printed_in(record["ablation"]) if record.get("ablation") else {},
        **{key: record[key] for key in same},
    )


def open_training_data(record: Record) -> TrainingData:
    """The data that a choice of ``conf/data`` describes.

    Raises:
        LexisegError: What the data layer found wrong, or a key that does not exist.
    """
    return known_settings(TrainingData, {key: build(value) for key, value in record.items()}, "data")


def open_split_and_data(record: Record) -> tuple[ClassSplit, SegmentationDataModule]:
    """The split and the data module of a record of ``conf/train.yaml``.

    Raises:
        LexisegError: What the data layer found wrong.
    """
    data = open_training_data(record["data"])
    split = known_settings(SplitSettings, record["split"], "split").of(data.train.classes)
    return split, data.module(split, record["seed"])


def build(record: Any) -> Any:
    """Call what every ``_target_`` names with the values beside it, the innermost first; other values stay as they are.

    Raises:
        LexisegError: What the called one found wrong; a :class:`ConfigError` where it is none of ours, or does not take the
            values.
    """
    if isinstance(record, list):
        return [build(item) for item in record]
    if not isinstance(record, Mapping):
        return record
    if TARGET not in record:
        return {key: build(value) for key, value in record.items()}
    place = own_class(record[TARGET])
    if place is None:
        raise ConfigError(
            f"{TARGET} {record[TARGET]}: not built, for it is none of lexiseg's own; name a class as the files of conf do, or "
            "make the data in Python and give them to TrainRun, Evaluation or Benchmark"
        )
    values = {key: build(value) for key, value in record.items() if key != TARGET}
    try:
        return resolve_name(place)(**values)
    except LexisegError:
        raise
    except Exception as error:  # whatever class a configuration names, what it refuses is the user's to mend
        raise ConfigError(f"{TARGET} {place}: {error}; check its name and its keys") from error


def _methods(record: Record) -> Any:
    """The methods that a record of ``conf/benchmark.yaml`` names, or those of its table.

    Raises:
        ConfigError: No such table or row, or both were named.
    """
    table, rows = record.get("ablation"), record.get("rows", "all")
    if not table:
        if rows != "all":
            raise ConfigError(
                f"rows={rows}: they are of a table of a paper; name that with ablation=TABLE too"
            )
        return record["methods"]
    if record["methods"] != "all":
        raise ConfigError(
            f"ablation={table} has methods of its own; leave methods out, or choose among them with rows=[…]"
        )
    return rows_of_table(table, rows)


def _training_of(data: Any) -> Callable[[], SegmentationDataset] | None:
    """Opens the training images of a benchmark's data set, where that has some by that name."""
    if not isinstance(data, Mapping) or "partition" not in data:
        return None
    return lambda: cast(SegmentationDataset, _dataset({**data, "partition": "train"}))


def _judged_on(data: object) -> SegmentationDataset | None:
    """The validation data of a choice of ``conf/data``, if one was made."""
    found = build(data["val"]) if isinstance(data, Mapping) and "val" in data else data
    if found is not None and not hasattr(found, "classes"):
        raise ConfigError(
            f"data: expected a data set with val, whose regions are to be named, or null, got {found!r}"
        )
    return cast("SegmentationDataset | None", found)


def _dataset(record: Any) -> Any:
    """What a record opens, where it is a data set.

    Raises:
        LexisegError: As :func:`build`; or it is none.
    """
    dataset = build(record)
    if not hasattr(dataset, "classes"):
        raise ConfigError(
            f"expected a data set, with {TARGET} and its settings, got {type(dataset).__name__}; name one as the files of "
            "conf/data do"
        )
    return dataset


def _require_keys(record: Record, command: str, *keys: str) -> None:
    absent = [key for key in keys if key not in record] if isinstance(record, Mapping) else list(keys)
    if absent:
        raise ConfigError(
            f"the record of the run lacks {', '.join(absent)}; expected what conf/{command}.yaml composes to, as `lexiseg "
            f"{command} --config` prints it and a run folder's config.yaml holds it"
        )


def _wandb(logger: object) -> Mapping[str, Any] | None:
    """Arguments of the logger of Weights & Biases, if there is to be one."""
    if not isinstance(logger, Mapping) or not isinstance(logger.get("wandb"), Mapping | None):
        raise ConfigError(f"logger: expected wandb with its settings, or with null, got {logger!r}")
    return logger.get("wandb")


def _trainer(values: object) -> TrainerSettings:
    """Lightning's own further arguments stay what they are.

    Raises:
        ConfigError: An argument that neither we nor Lightning's trainer have, or a bad value.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"trainer: expected settings by name, got {values!r}")
    known = [*_TRAINER_KEYS, *trainer_arguments()]
    unknown = [key for key in values if key not in known]
    if unknown:
        near = did_you_mean(str(unknown[0]), known)
        raise ConfigError(
            f"trainer: no setting {', '.join(map(str, unknown))}{near or '; there are ' + ', '.join(_TRAINER_KEYS)}"
        )
    own = {key: value for key, value in values.items() if key in _TRAINER_KEYS}
    more = {key: value for key, value in values.items() if key not in _TRAINER_KEYS}
    return TrainerSettings(**own, more=more)


def _require_photographs(mask_data: object) -> None:
    """Refuse a folder of photographs that is not there before a CLIP is loaded.

    Raises:
        ConfigError: Says which key names it.
    """
    train = mask_data.get("train") if isinstance(mask_data, Mapping) else None
    images = train.get("images") if isinstance(train, Mapping) else None
    if isinstance(images, str) and not leads_somewhere(images):
        raise ConfigError(
            f"no folder of photographs at {images}; say images=FOLDER, or experiment=pixelclip/toy for the toy world"
        )


def _open_photographs(record: Record, tell: Tell) -> MaskDataModule:
    """Photographs and masks; superpixels are made first where the record asks for them."""
    if record["masks"] == SUPERPIXELS:
        training = record["mask_data"]["train"]
        store = MaskStore(Path(training["masks"]["folder"]), Path(training["masks"]["root"]))
        make_superpixels(Path(training["images"]), store, tell)
    module: MaskDataModule = build(record["mask_data"])
    return module
