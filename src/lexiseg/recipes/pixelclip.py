"""Tune a CLIP image tower with masks without names, and write it as a CLIP like any other (PixelCLIP)."""

import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lexiseg.clip.model import FrozenCLIP
from lexiseg.clip.vocabulary import embed_words
from lexiseg.data.mask_datamodule import MaskDataModule
from lexiseg.data.resuming import MOST_SAMPLES
from lexiseg.data.word_lists import word_groups
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.plain_settings import require_plain_settings, require_seed, within
from lexiseg.recipes.clip_folder import CLIP_FOLDER, write_clip_folder
from lexiseg.recipes.record import record_of
from lexiseg.recipes.run_folder import RunFolder, resumed_step
from lexiseg.recipes.settings import CheckpointSettings, ClipSource, Resume, TrainerSettings, require_resume
from lexiseg.recipes.trainer import check_trainer, make_trainer, quiet, tell_once, tell_other_batch
from lexiseg.training.checkpointing import KeepCheckpoints
from lexiseg.training.cluster_examples import TypicalMasks
from lexiseg.training.cluster_panels import ClusterPanels
from lexiseg.training.pixel_clip_task import PixelCLIPTask, read_tuning_info
from lexiseg.training.progress import TrainingProgress

CLUSTERS_FILE = "clusters.png"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureSettings:
    """clusters.png: typical masks and nearest words of every cluster.

    Attributes:
        every_steps: Optimiser steps between pictures; 0: at the end only.
        images: Photographs looked at.
        examples: Masks shown of each cluster.
        words: A shipped class list, ``toy``, a text file with one word a line, or the words themselves.

    Raises:
        ConfigError: A number out of range.
    """

    every_steps: int = within(1000, at_least=0)
    images: int = within(64, at_least=0, at_most=MOST_SAMPLES)
    examples: int = within(6, at_least=0, at_most=100)
    words: str | Sequence[str] = "coco_stuff171"

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        require_plain_settings(self, "pictures")


@dataclass(frozen=True)
class TuneRun:
    """One tuning; every default is the command's own.

    Attributes:
        open_data: Opens the photographs with their masks; called when the CLIP has been loaded, so that masks which are
            made on the way are not made in vain.
        output_dir: Receives clip, the tuned CLIP, and last.ckpt, metrics.csv, config.yaml, clusters.png, result.json.
        clip: The CLIP that is tuned.
        model: Clusters, prompts, decoder, and what trains.
        optim: Optimiser and schedule.
        trainer: Where and how long.
        checkpoint: What is kept; nothing is monitored.
        pictures: What is drawn.
        seed: Of weights, prompts and pictures; the data module has its own.
        resume: Where it goes on.
        wandb: Arguments of Lightning's WandbLogger; None: metrics.csv alone.
        record: What config.yaml says: a folder goes on only as the run of the same record. None: these settings.
        tell: Takes a sentence about the run's progress.

    Raises:
        ConfigError: A bad value.
    """

    open_data: Callable[[], MaskDataModule]
    output_dir: Path
    clip: ClipSource = field(default_factory=ClipSource)
    model: PixelCLIPSettings = field(default_factory=PixelCLIPSettings)
    optim: PixelCLIPOptimSettings = field(default_factory=PixelCLIPOptimSettings)
    trainer: TrainerSettings = field(default_factory=lambda: TrainerSettings(max_steps=10_000))
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    pictures: PictureSettings = field(default_factory=PictureSettings)
    seed: int = 0
    resume: Resume = "auto"
    wandb: Mapping[str, Any] | None = None
    record: Mapping[str, Any] | None = None
    tell: Callable[[str], None] = _log.info

    def __post_init__(self) -> None:
        """Refuse a bad seed before anything is read."""
        require_seed(self.seed)
        require_resume(self.resume)
        object.__setattr__(self, "output_dir", Path(self.output_dir))

    @property
    def folder(self) -> RunFolder:
        """The run's folder, with its record."""
        told = record_of(self, "open_data") if self.record is None else self.record
        return RunFolder(self.output_dir, self.resume, told)


def tune(run: TuneRun) -> Path:
    """Tune as a run says; goes on wherever it was stopped.

    Returns:
        The folder of the tuned CLIP.

    Raises:
        LexisegError: Of photographs, masks, weights, checkpoints or settings, each named; the folder holds another run.
    """
    quiet()
    check_trainer(run.trainer, "gradient_clip_val")
    folder = run.folder
    read_words(run.pictures.words)  # what is wrong in itself is told before what is wrong for this folder
    if folder.finished(run.trainer.max_steps) is not None:
        run.tell(folder.complete)
        return run.output_dir / CLIP_FOLDER
    with folder.at_work() as resume_from:
        return _tune(run, resume_from)


def _tune(run: TuneRun, resume_from: Path | None) -> Path:
    folder, tuned, started = run.folder, run.output_dir / CLIP_FOLDER, time.monotonic()
    step = resumed_step(resume_from, read_tuning_info)
    if resume_from is not None:
        tell_once(run.tell, folder.tell_other_length(run.trainer.max_steps))
    pl.seed_everything(run.seed, verbose=False)
    clip = run.clip.load()
    task = build_task(run, clip)  # what does not fit the CLIP is told before masks are made
    data, without = _open(run)
    callbacks = _callbacks(run, task, data, clip)
    trainer = make_trainer(
        run.trainer,
        run.output_dir,
        folder.open(resume_from, step),
        callbacks,
        wandb=run.wandb,
        record=folder.record,
        gradient_clip_val=task.optim.gradient_clip or None,
    )
    tell_once(run.tell, tell_other_batch(run.trainer, data.batch_size, trainer.world_size))
    trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
    trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=True)
    if trainer.is_global_zero:
        clip.tower = task.model.tuned_tower()
        write_clip_folder(clip, tuned)
        result = {
            "step": trainer.global_step,
            "images": len(data.train),
            "without_masks": without,
            "loss": float(trainer.callback_metrics.get("train/loss", float("nan"))),  # NaN: no step was left
            "seconds": time.monotonic() - started,
            "parameters": trained,
        }
        folder.write_result(result)
    return tuned


def build_task(run: TuneRun, clip: FrozenCLIP) -> PixelCLIPTask:
    """Model, optimiser and description of a run.

    Raises:
        LexisegError: A CLIP without a text tower, which could not be written as a CLIP either, or a bad setting.
    """
    model = PixelCLIP(clip.tower, clip.require_text(), run.model)
    source = {"source": clip.source, "fingerprint": clip.fingerprint}
    return PixelCLIPTask(model, optim=run.optim, clip=source)


def read_words(words: str | Sequence[str]) -> tuple[str, ...]:
    """Words that clusters are compared with: a list, ``toy``, a text file, or the name of a shipped class list.

    Raises:
        LexisegError: No such list, or a file that is none.
    """
    return tuple(group[0] for group in word_groups(words, "pictures.words"))


def _open(run: TuneRun) -> tuple[MaskDataModule, int]:
    """The data module, and how many of the photographs looked at have no mask; what was left out is told.

    Raises:
        LexisegError: No photograph, or no mask to learn from.
    """
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        data = run.open_data()
        without = data.check_masks()
    for remark in remarks:
        run.tell(f"note: {remark.message}")
    return data, without


def _callbacks(
    run: TuneRun, task: PixelCLIPTask, data: MaskDataModule, clip: FrozenCLIP
) -> list[pl.Callback]:
    """Bar and checkpoints; pictures where there are clusters."""
    keep = KeepCheckpoints(run.output_dir, every_steps=run.checkpoint.every_steps)
    callbacks: list[pl.Callback] = [TrainingProgress(), keep]
    if task.model.prompts is None:
        return callbacks
    words, pictures = read_words(run.pictures.words), run.pictures
    typical = TypicalMasks(
        data.train, data.views, images=pictures.images, examples=pictures.examples, seed=run.seed
    )
    drawn = ClusterPanels(
        run.output_dir / CLUSTERS_FILE,
        typical=typical,
        words=words,
        embeddings=embed_words(clip, words, (run.model.prompt_template,)),
        every_steps=pictures.every_steps,
    )
    return [*callbacks, drawn]
