"""Adapt a CLIP to regions cut out of photographs, and write it as a CLIP like any other (OVSeg, sec. 3.3)."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lexiseg.checkpoints.training_file import ADAPTATION_KEY
from lexiseg.checkpoints.tuning_info import read_tuning_info
from lexiseg.clip.model import FrozenCLIP
from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.vocabulary import embed_words
from lexiseg.data.pair_datamodule import PairDataModule, RegionPairs
from lexiseg.data.resuming import MOST_SAMPLES, MOST_WORKERS
from lexiseg.evaluation.region_accuracy import RegionAccuracy, accuracy_facts, region_accuracy
from lexiseg.masks.store import MaskStore
from lexiseg.models.mask_adaptation import LARGEST_SCALE, AdaptationSettings, MaskAdaptation
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from lexiseg.models.region_classifiers.masked_crops import MaskedCrops
from lexiseg.plain_settings import require_plain_settings, require_seed, within
from lexiseg.recipes.clip_folder import CLIP_FOLDER, write_clip_folder
from lexiseg.recipes.record import record_of
from lexiseg.recipes.run_folder import RunFolder, resumed_step
from lexiseg.recipes.settings import CheckpointSettings, ClipSource, Resume, TrainerSettings, require_resume
from lexiseg.recipes.trainer import check_trainer, make_trainer, quiet, tell_once, tell_other_batch
from lexiseg.training.adaptation_task import AdaptationTask
from lexiseg.training.checkpointing import KeepCheckpoints
from lexiseg.training.optim import OptimSettings
from lexiseg.training.progress import TrainingProgress
from lexiseg.types import SegmentationDataset

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairSettings:
    """What a run draws from.

    Attributes:
        images: Folder of photographs, subfolders included.
        folder: What `lexiseg masks pairs` wrote of them.
        batch_size: Pairs per process and step; published: 32 on each of 4.
        num_workers: Loader processes per training process.
        least_share: Of a region's box that is shown, by area.
    """

    images: str | Path
    folder: str | Path
    batch_size: int = within(32, at_least=2, at_most=MOST_SAMPLES)
    num_workers: int = within(4, at_least=0, at_most=MOST_WORKERS)
    least_share: float = within(0.9, above=0, at_most=1)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn; a pair alone has nothing to be told from."""
        require_plain_settings(self, "pairs")

    def open(self) -> RegionPairs:
        """All pairs, known.

        Raises:
            DataError: No photograph, or no pair.
        """
        images = Path(self.images)
        return RegionPairs(images=images, pairs=MaskStore(Path(self.folder), images))


@dataclass(frozen=True)
class AdaptRun:
    """One adaptation; every default is the command's own.

    Attributes:
        pairs: What is learnt from.
        output_dir: Receives clip, the adapted CLIP, and last.ckpt, metrics.csv, config.yaml, result.json.
        clip: The CLIP that is adapted.
        model: What learns.
        templates: Sentences that words are read in; published: none around the noun.
        optim: Optimiser and schedule.
        trainer: Where and how long.
        checkpoint: What is kept; nothing is monitored.
        judged_on: Labelled photographs whose regions are named before and after; None: the result is not judged.
        seed: Of tokens, order and parts.
        resume: Where it goes on.
        wandb: Arguments of Lightning's WandbLogger; None: metrics.csv alone.
        record: What config.yaml says: a folder goes on only as the run of the same record. None: these settings.
        tell: Takes a sentence about the run's progress.

    Raises:
        ConfigError: A bad value.
    """

    pairs: PairSettings
    output_dir: Path
    clip: ClipSource = field(default_factory=ClipSource)
    model: AdaptationSettings = field(default_factory=AdaptationSettings)
    templates: str | tuple[str, ...] = "plain"
    optim: OptimSettings = field(default_factory=OptimSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    judged_on: SegmentationDataset | None = None
    seed: int = 0
    resume: Resume = "auto"
    wandb: Mapping[str, Any] | None = None
    record: Mapping[str, Any] | None = None
    tell: Callable[[str], None] = _log.info

    def __post_init__(self) -> None:
        """Refuse a bad seed or template before anything is read."""
        require_seed(self.seed)
        require_resume(self.resume)
        resolve_templates(self.templates)
        object.__setattr__(self, "output_dir", Path(self.output_dir))

    @property
    def folder(self) -> RunFolder:
        """The run's folder, with its record."""
        told = record_of(self, "judged_on") if self.record is None else self.record
        return RunFolder(self.output_dir, self.resume, told)


def adapt(run: AdaptRun) -> Path:
    """Adapt as a run says; goes on wherever it was stopped.

    Returns:
        The folder of the adapted CLIP, with its mask prompt tokens where these were tuned.

    Raises:
        LexisegError: Of pairs, photographs, weights, checkpoints or settings, each named; the folder holds another run.
    """
    quiet()
    check_trainer(run.trainer)
    folder = run.folder
    if folder.finished(run.trainer.max_steps) is not None:
        run.tell(folder.complete)
        return run.output_dir / CLIP_FOLDER
    with folder.at_work() as resume_from:
        return _adapt(run, resume_from)


def _adapt(run: AdaptRun, resume_from: Path | None) -> Path:
    folder, adapted, started = run.folder, run.output_dir / CLIP_FOLDER, time.monotonic()
    step = resumed_step(resume_from, lambda values, path: read_tuning_info(values, path, ADAPTATION_KEY))
    if resume_from is not None:
        tell_once(run.tell, folder.tell_other_length(run.trainer.max_steps))
    pl.seed_everything(run.seed, verbose=False)
    pairs = run.pairs.open()
    clip = run.clip.load()
    task = build_task(run, clip, pairs.words)
    tower = task.model.tower
    data = PairDataModule(
        pairs=pairs,
        side=tower.image_size,
        colors=(tower.mean, tower.std),
        least_share=run.pairs.least_share,
        batch_size=run.pairs.batch_size,
        num_workers=run.pairs.num_workers,
        seed=run.seed,
    )
    keep = KeepCheckpoints(run.output_dir, every_steps=run.checkpoint.every_steps)
    trainer = make_trainer(
        run.trainer,
        run.output_dir,
        folder.open(resume_from, step),
        [TrainingProgress(), keep],
        wandb=run.wandb,
        record=folder.record,
    )
    tell_once(run.tell, tell_other_batch(run.trainer, run.pairs.batch_size, trainer.world_size))
    trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=True)
    if trainer.is_global_zero:
        result = {
            "step": trainer.global_step,
            "pairs": len(pairs),
            "words": len(pairs.words),
            "loss": float(trainer.callback_metrics.get("train/loss", math.nan)),  # NaN: no step was left
            "named": _judged(run, clip, task.model, trainer.strategy.root_device),
        }
        _export(clip, task.model, adapted)
        folder.write_result(result | {"seconds": time.monotonic() - started})
    return adapted


def build_task(run: AdaptRun, clip: FrozenCLIP, words: tuple[str, ...]) -> AdaptationTask:
    """Model, texts of all words, optimiser and description of a run.

    Raises:
        LexisegError: A CLIP without a text tower or whose scale of cosines is none of CLIP's, or prompt tokens that it cannot
            take.
    """
    texts = embed_words(clip, words, resolve_templates(run.templates))
    model = MaskAdaptation(
        clip.tower,
        run.model.name,
        prompt_depth=run.model.prompt_depth,
        logit_scale=min(max(math.log(clip.logit_scale), 0.0), LARGEST_SCALE),
    )
    source = {"source": clip.source, "fingerprint": clip.fingerprint}
    return AdaptationTask(model, texts, settings=run.model, optim=run.optim, clip=source)


def _judged(
    run: AdaptRun, clip: FrozenCLIP, model: MaskAdaptation, device: torch.device
) -> dict[str, Any] | None:
    """How often regions of labelled photographs are named right, by the CLIP as it came and as it is now; told, too."""
    if run.judged_on is None:
        return None
    text = embed_words(clip, run.judged_on.classes, resolve_templates(run.templates))
    # After the last step the trainer puts the model back on the processor; the copy that did not learn never left it.
    model.to(device)
    cast(nn.Module, clip.tower).to(device)
    before, after = (
        _accuracy(tower, prompts, run.judged_on, text)
        for tower, prompts in ((clip.tower, None), (model.tower, model.prompts))
    )
    run.tell(" ".join(accuracy_facts(before, after)))
    return {"before": asdict(before), "after": asdict(after)}


def _accuracy(
    tower: Any, prompts: MaskPrompts | None, dataset: SegmentationDataset, text: Tensor
) -> RegionAccuracy:
    crops = MaskedCrops("region", prompts=prompts)

    def read(image: np.ndarray, masks: np.ndarray) -> Tensor:
        return crops.embed_regions(tower, image, masks)

    training = tower.training
    tower.eval()
    found = region_accuracy(read, dataset, text)
    tower.train(training)
    return found


def _export(clip: FrozenCLIP, model: MaskAdaptation, folder: Path) -> None:
    """Write the CLIP with what it has learnt: its tower, or tokens beside it, and its scale of cosines."""
    clip.tower = model.tower
    if "logit_scale" in clip.scalars:
        clip.scalars["logit_scale"] = model.logit_scale.detach().to(torch.float32).cpu()
    prompts = None if model.prompts is None else model.prompts.tokens
    write_clip_folder(clip, folder, prompts)
