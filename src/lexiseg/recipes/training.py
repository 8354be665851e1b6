"""Train a mask model on the seen classes of a split, and judge it on all: one run, or two with self-training."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from lexiseg.checkpoints.backbone_weights import load_backbone_weights
from lexiseg.checkpoints.mask_prompts import read_mask_prompts
from lexiseg.checkpoints.training_file import (
    CheckpointInfo,
    check_same,
    load_tensors_only,
    load_weights,
    read_info,
)
from lexiseg.clip.model import FrozenCLIP
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import Vocabulary, embed_words
from lexiseg.data.captioned_regions import CaptionedRegions
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol, suited
from lexiseg.inference.words import tell_unknown
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.open_seg import OpenSeg
from lexiseg.models.ovseg import OVSeg
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts, take_prompts
from lexiseg.models.region_model import RegionModel
from lexiseg.models.region_parts import told_of
from lexiseg.models.registry import MODELS, activation_of, build_model, complete_settings, model_settings
from lexiseg.plain_settings import require_seed
from lexiseg.recipes.criteria import LossSettings, make_criterion
from lexiseg.recipes.record import merged, record_of
from lexiseg.recipes.run_folder import RunFolder, resumed_step
from lexiseg.recipes.settings import (
    CheckpointSettings,
    ClipSource,
    Resume,
    SplitSettings,
    TrainerSettings,
    TrainingData,
    ValidationSettings,
    require_resume,
)
from lexiseg.recipes.trainer import check_trainer, make_trainer, quiet, tell_once, tell_other_batch
from lexiseg.training.checkpointing import LAST, KeepCheckpoints
from lexiseg.training.csv_log import CsvLog
from lexiseg.training.optim import OptimSettings
from lexiseg.training.panels import ValidationPanels
from lexiseg.training.progress import TrainingProgress
from lexiseg.training.self_training import SelfTrainingSettings
from lexiseg.training.task import SegmentationTask
from lexiseg.types import ClassSplit, MaskModel

_log = logging.getLogger(__name__)

NATIVE = InferenceProtocol(name="native", activation="sigmoid", seen_penalty=0.1)
"""The whole image at its own size; seen classes bear the released penalty of inductive models."""


@dataclass(frozen=True)
class TrainRun:
    """One training run; every default is the command's own.

    Attributes:
        data: What is drawn from and judged on.
        split: How its classes are parted.
        output_dir: Receives checkpoints, metrics.csv, config.yaml, result.json, pictures.
        clip: The CLIP underneath.
        model: The settings of a mask model; or ``name`` and settings as plain values.
        templates: A template set's name, or templates with ``{}`` in each.
        loss: Settings of a loss that fits the model; None for the model's own.
        optim: Optimiser and schedule.
        protocol: How validation images are read; its seen penalty holds in the inductive setting only.
        self_training: Whether, and how, a transductive run follows an inductive one.
        trainer: Where and how long.
        validation: When it is judged.
        checkpoint: What is kept.
        seed: Of weights, data order and augmentation.
        resume: Where it goes on.
        init_from: A checkpoint whose weights to start from; optimiser and schedule start anew.
        backbone_weights: What the model's own encoder starts from, see
            :func:`~lexiseg.checkpoints.backbone_weights.load_backbone_weights`.
        wandb: Arguments of Lightning's WandbLogger; None: metrics.csv alone.
        record: What config.yaml says: a folder goes on only as the run of the same record. None: these settings.
        tell: Takes a sentence about the run's progress.

    Raises:
        ConfigError: A model or a setting that does not exist, or a bad value.
    """

    data: TrainingData
    split: SplitSettings
    output_dir: Path
    clip: ClipSource = field(default_factory=ClipSource)
    model: CascadeSettings | Mapping[str, Any] = field(default_factory=CascadeSettings)
    templates: str | Sequence[str] = "single"
    loss: LossSettings | None = None
    optim: OptimSettings = field(default_factory=OptimSettings)
    protocol: InferenceProtocol = NATIVE
    self_training: SelfTrainingSettings = field(default_factory=SelfTrainingSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    seed: int = 0
    resume: Resume = "auto"
    init_from: str | Path | None = None
    backbone_weights: str | Path | None = None
    wandb: Mapping[str, Any] | None = None
    record: Mapping[str, Any] | None = None
    tell: Callable[[str], None] = _log.info

    def __post_init__(self) -> None:
        """Refuse a bad model or seed before anything is read."""
        require_seed(self.seed)
        require_resume(self.resume, self.init_from, self.backbone_weights)
        resolve_templates(self.templates)
        object.__setattr__(self, "output_dir", Path(self.output_dir))
        object.__setattr__(self, "model", _named(self.model))

    @property
    def folder(self) -> RunFolder:
        """The run's folder, with its record: of the protocol it says what the run takes."""
        asked, taken = self.asked, self.protocol_of(self.split.setting)
        suits = {"activation": taken.activation, "seen_penalty": taken.seen_penalty}
        return RunFolder(self.output_dir, self.resume, merged(asked, {"protocol": suits}), asked)

    @property
    def asked(self) -> Mapping[str, Any]:
        """The record before the protocol was brought in line with model and split."""
        return record_of(self) if self.record is None else self.record

    def protocol_of(self, setting: str) -> InferenceProtocol:
        """The protocol that the model and a split's setting leave of :attr:`protocol`."""
        protocol = self.protocol if setting == "inductive" else replace(self.protocol, seen_penalty=0.0)
        return suited(protocol, activation_of(_named(self.model)))


def train(run: TrainRun) -> dict[str, float]:
    """Train as a run says, with self-training where it asks for it; goes on wherever it was stopped.

    Returns:
        The last validation's scores (fractions).

    Raises:
        LexisegError: Of data, weights, checkpoints or settings, each named; the folder holds another run.
    """
    quiet()
    check_trainer(run.trainer, "val_check_interval", "check_val_every_n_epoch")
    if run.self_training.enabled:
        _require_pixels(_named(run.model)["name"])
    return _train_twice(run) if run.self_training.enabled else _train_once(run)[0]


def _train_twice(run: TrainRun) -> dict[str, float]:
    """An inductive run and, from its weights, a transductive one, each in a folder of its own below ``output_dir``."""
    total = run.trainer.max_steps
    if total < 2:
        raise ConfigError(f"trainer.max_steps: two stages need at least 2 steps, got {total}")
    if run.resume not in ("auto", True, False, None):
        raise ConfigError(
            f"resume={run.resume}: with self-training there are two runs, and a checkpoint is of one of them; say resume=auto, "
            "and each goes on in its own folder"
        )
    first = min(max(round(total * run.self_training.inductive_share), 1), total - 1)
    inductive = _stage(run, "inductive", first)
    inductive = _changed(inductive, optim={"schedule_steps": total})
    transductive = _stage(run, "transductive", total - first)
    transductive = _changed(transductive, init_from=str(inductive.output_dir / LAST), backbone_weights=None)
    _, first_seconds = _train_once(inductive)
    scores, seconds = _train_once(transductive)
    if getattr(rank_zero_only, "rank", 0) == 0:
        result = {"step": total, "val": scores, "seconds": first_seconds + seconds}
        run.folder.write_result({**result, "parameters": transductive.folder.result().get("parameters")})
    return scores


def _stage(run: TrainRun, setting: str, steps: int) -> TrainRun:
    return _changed(
        run,
        split={"setting": setting},
        trainer={"max_steps": steps},
        output_dir=str(run.output_dir / setting),
    )


def _changed(run: TrainRun, **changes: Any) -> TrainRun:
    """A run with some settings changed, in the run and in its record: groups by their keys, others whole."""
    groups = {
        name: replace(getattr(run, name), **change) if isinstance(change, Mapping) else change
        for name, change in changes.items()
    }
    return replace(run, record=merged(run.asked, changes), **groups)


def _train_once(run: TrainRun) -> tuple[dict[str, float], float]:
    """Scores and seconds of one run, in every process of it."""
    folder = run.folder
    # What is wrong in itself is told before what is wrong for this folder.
    split = run.split.of(run.data.train.classes)
    data = run.data.module(split, run.seed)
    resolve_templates(run.templates)
    result = folder.finished(run.trainer.max_steps)
    if result is not None:
        run.tell(folder.complete)
        # JSON has no NaN: a score that none of the images could give stands there as null.
        scores = {name: math.nan if score is None else score for name, score in result["val"].items()}
        return scores, float(result["seconds"])
    with folder.at_work() as resume_from:
        return _fit(run, split, data, resume_from)


def _fit(
    run: TrainRun, split: ClassSplit, data: SegmentationDataModule, resume_from: Path | None
) -> tuple[dict[str, float], float]:
    folder, started = run.folder, time.monotonic()
    step = resumed_step(resume_from, read_info)
    if resume_from is not None and not run.optim.schedule_steps:
        tell_once(run.tell, folder.tell_other_length(run.trainer.max_steps))
    pl.seed_everything(run.seed, verbose=False)
    # A run that goes on has learnt its encoder further: where it came from need not be there any more.
    starting = run if resume_from is None else replace(run, backbone_weights=None)
    task = build_task(starting, run.clip.load(), split)
    data.check_training_labels()
    trainer = _build_trainer(run, folder.open(resume_from, step), data)
    trained = sum(each.numel() for each in task.model.parameters() if each.requires_grad)
    if trained:
        tell_once(run.tell, tell_other_batch(run.trainer, run.data.batch_size, trainer.world_size))
        trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=True)
    else:  # masks that are given, named by a frozen CLIP
        run.tell(f"model '{task.model.settings.name}' as chosen has nothing to train; it is judged as it is")
    # Where a run was killed between the last step and its result, no step was left to be judged after.
    if not task.last_scores:
        trainer.validate(task, datamodule=data, verbose=False)
    if not trained:
        trainer.save_checkpoint(run.output_dir / LAST)
    seconds = time.monotonic() - started
    if trainer.is_global_zero:
        result = {"step": trainer.global_step, "val": task.last_scores, "seconds": seconds}
        folder.write_result({**result, "parameters": trained})
    return task.last_scores, seconds


def build_task(run: TrainRun, clip: FrozenCLIP, split: ClassSplit) -> SegmentationTask:
    """Model, loss, text and the validation path of a run. The CLIP loses its text tower, which has done its work.

    Raises:
        LexisegError: A model that does not fit the CLIP, or a checkpoint to start from that is another model's.
    """
    model = build_model(_named(run.model), clip.tower)
    _take_prompts(model, run.clip.source, started=run.init_from is not None)
    if run.backbone_weights:
        load_backbone_weights(cast(nn.Module, model), run.backbone_weights)
    if run.init_from:
        _start_from(run.init_from, model, clip)
    if split.setting == "transductive":
        _require_pixels(model.settings.name)
    if unknown := tell_unknown(clip, Vocabulary.from_names(split.classes)):
        _log.warning(unknown)
    info = CheckpointInfo(
        model=model_settings(model),
        clip=_describe_clip(run.clip, clip),
        templates=resolve_templates(run.templates),
        split=split,
        protocol=run.protocol_of(split.setting).to_dict(),
    )
    segmenter = Pipeline.trained(model, clip, info).segmenter(split)
    caption_text = _caption_text(run, model, clip)
    clip.text_tower = None
    return SegmentationTask(
        model,
        segmenter.embeddings.vectors,
        split,
        criterion=make_criterion(model, run.loss),
        optim=run.optim,
        info=info,
        labeller=lambda image: segmenter.segment(image, scores=False).labels,
        self_training=run.self_training,
        caption_text=caption_text,
    )


def _caption_text(run: TrainRun, model: MaskModel, clip: FrozenCLIP) -> Tensor | None:
    """Embeddings of the words of captions, where the training data are captions.

    Raises:
        ConfigError: A model that cannot learn from them.
    """
    if not isinstance(run.data.train, CaptionedRegions):
        return None
    if not isinstance(model, OpenSeg):
        raise ConfigError(
            f"the training data are captions, which model '{model.settings.name}' cannot learn from; take model=open_seg"
        )
    return embed_words(clip, run.data.train.words, resolve_templates(run.templates))


def _require_pixels(name: str) -> None:
    """Refuse self-training of a model of regions before any of its stages begins.

    Raises:
        ConfigError: It is one.
    """
    network = MODELS[name].network
    if isinstance(network, type) and issubclass(network, RegionModel):
        raise ConfigError(
            f"model '{name}' names regions, and self-training labels pixels by a pixel model's sigmoid; set "
            "split.setting=inductive and self_training=none"
        )


def _build_trainer(run: TrainRun, log: CsvLog, data: SegmentationDataModule) -> pl.Trainer:
    """Lightning's trainer with our checkpoints, log, bar and pictures."""
    keep = KeepCheckpoints(
        run.output_dir,
        every_steps=run.checkpoint.every_steps,
        monitor=_monitored(run.checkpoint.monitor, data.split),
    )
    panels = ValidationPanels(
        run.output_dir / "panels", dataset=data.val, split=data.split, count=run.validation.panels
    )
    steps = min(run.validation.every_steps, run.trainer.max_steps)
    return make_trainer(
        run.trainer,
        run.output_dir,
        log,
        [TrainingProgress(), keep, panels],
        wandb=run.wandb,
        record=run.folder.record,
        val_check_interval=steps * run.trainer.accumulate_grad_batches,
        check_val_every_n_epoch=None,
    )


def _monitored(monitor: str, split: ClassSplit) -> str:
    """The score that decides ``best.ckpt``; without unseen classes there is no unseen or harmonic one."""
    return "val/miou" if not split.unseen and monitor in ("val/unseen", "val/harmonic") else monitor


def _take_prompts(model: MaskModel, clip: str, *, started: bool) -> None:
    """Give a model the mask prompt tokens that `lexiseg maskadapt` left beside its CLIP, if it did.

    Released, OVSeg's regions are trained on any CLIP, the tokens are zeros until an adapted one is loaded, and CLIP is asked in
    the judging alone: so OVSeg goes on without, and says so.

    Args:
        model: OVSeg, or any other that may hold such tokens.
        clip: Where the CLIP came from.
        started: Whether the model starts from a checkpoint, which brings them.

    Raises:
        LexisegError: They do not fit the model, their file is damaged, or a model that is no OVSeg would read with none.
    """
    parts = cast(nn.Module, model).modules()
    own = next((part for part in parts if isinstance(part, MaskPrompts)), None)
    published, tokens = isinstance(model, OVSeg), read_mask_prompts(clip)
    if tokens is not None and (published or own is not None):
        with told_of("model" if published else "model.classifier"):
            take_prompts(own, tokens)
    elif own is not None and not started:
        key = "model.prompt_depth" if published else "model.classifier.prompt_depth"
        told = (
            f"{key}: the CLIP ({clip}) brings no mask prompt tokens, and here they do not train; give a CLIP that `lexiseg "
            f"maskadapt model=prompts` wrote, or set {key}=0"
        )
        if not published:
            raise ConfigError(told)
        if model.settings.branch != "segment":
            _log.warning("%s; they stay zero, as in the release before an adapted CLIP is loaded", told)


def _start_from(path: str | Path, model: MaskModel, clip: FrozenCLIP) -> None:
    """Take over the weights of another run of the same model on the same CLIP.

    Raises:
        CheckpointError: Missing, unsafe, or of another model or CLIP.
    """
    checkpoint = load_tensors_only(path)
    info = read_info(checkpoint, path)
    check_same(info, model=model_settings(model), fingerprint=clip.fingerprint, path=path)
    load_weights(model, checkpoint["state_dict"], path)


def _named(model: CascadeSettings | Mapping[str, Any]) -> dict[str, Any]:
    """A model's settings as its registry takes them: plain values with its name.

    Raises:
        ConfigError: No such model, or a setting that it does not have.
    """
    return complete_settings(asdict(model) if isinstance(model, CascadeSettings) else model)


def _describe_clip(source: ClipSource, clip: FrozenCLIP) -> dict[str, Any]:
    """Where the CLIP was found, wherever the checkpoint is read later, and what it was."""
    place = Path(source.source)
    found = str(place.resolve()) if place.exists() else source.source
    return {**vars(source), "source": found, "fingerprint": clip.fingerprint}
