"""``lexiseg train``: compose, build, fit, judge."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from lexiseg.checkpoints.training_file import (
    CheckpointInfo,
    check_same,
    load_tensors_only,
    load_weights,
    read_info,
)
from lexiseg.cli.building import build_clip, build_protocol, build_split_and_data
from lexiseg.cli.composing import compose_config, plain
from lexiseg.cli.running import (
    check_same_run,
    make_trainer,
    open_run_folder,
    quiet,
    resume_path,
    resumed_step,
)
from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.templates import resolve_templates
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.models.registry import build_model, model_settings
from lexiseg.recipes.sweep_table import RESULT_FILE
from lexiseg.storage import write_json
from lexiseg.training.checkpointing import LAST, KeepCheckpoints
from lexiseg.training.csv_log import CsvLog
from lexiseg.training.optim import OptimSettings
from lexiseg.training.panels import ValidationPanels
from lexiseg.training.progress import TrainingProgress
from lexiseg.training.self_training import SelfTrainingSettings
from lexiseg.training.task import SegmentationTask
from lexiseg.types import ClassSplit, MaskModel


def run_train(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    config = compose_config("train", [o for o in overrides if o != "--config"])
    if "--config" in overrides:
        print(OmegaConf.to_yaml(config))
        return 0
    train_as_configured(config)
    return 0


def train_as_configured(config: DictConfig) -> dict[str, float]:
    """A run, with self-training where the configuration asks for it.

    Returns:
        The last validation's scores (fractions).
    """
    return train_with_self_training(config) if config.self_training.enabled else train(config)


def train_with_self_training(config: DictConfig) -> dict[str, float]:
    """An inductive run and, from its weights, a transductive one, each in a folder of its own below ``output_dir``.

    Goes on wherever it was stopped, in either.

    Returns:
        The transductive run's last validation scores (fractions).
    """
    settings = SelfTrainingSettings(**plain(config.self_training))
    total, root = int(config.trainer.max_steps), Path(config.output_dir)
    first = min(max(round(total * settings.inductive_share), 1), total - 1)
    stages = {
        "inductive": (first, {"optim": {"schedule_steps": total}}),
        "transductive": (total - first, {"init_from": str(root / "inductive" / LAST)}),
    }
    result: dict[str, Any] = {}
    seconds = 0.0
    for setting, (steps, changes) in stages.items():
        common = {"split": {"setting": setting}, "trainer": {"max_steps": steps}}
        folder = root / setting
        train(cast(DictConfig, OmegaConf.merge(config, common, changes, {"output_dir": str(folder)})))
        result = json.loads((folder / RESULT_FILE).read_text())
        seconds += result["seconds"]
    write_json({"step": total, "val": result["val"], "seconds": seconds}, root / RESULT_FILE)
    return dict(result["val"])


def _finished(config: DictConfig, folder: Path) -> dict[str, float] | None:
    """The scores of a run of these settings that has come to its end there, or None."""
    result = folder / RESULT_FILE
    if config.resume != "auto" or not result.is_file() or not (folder / LAST).is_file():
        return None
    check_same_run(config, folder)
    stored = json.loads(result.read_text())
    return dict(stored["val"]) if stored["step"] == config.trainer.max_steps else None


def train(config: DictConfig) -> dict[str, float]:
    """One run from a composed configuration.

    Returns:
        The last validation's scores (fractions).
    """
    quiet()
    run_folder = Path(config.output_dir)
    scores = _finished(config, run_folder)
    if scores is not None:
        print(f"the run in {run_folder} is complete; resume=false starts it anew")
        return scores
    started = time.monotonic()
    resume_from = resume_path(config, run_folder)
    step = resumed_step(resume_from, read_info)
    pl.seed_everything(config.seed, verbose=False)
    split, data = build_split_and_data(config)
    clip = build_clip(config.clip)
    task = build_task(config, clip, split)
    data.check_training_labels()
    log = open_run_folder(config, run_folder, resume_from, step)
    keep = KeepCheckpoints(
        run_folder,
        every_steps=config.checkpoint.every_steps,
        monitor=_monitored(config.checkpoint.monitor, split),
    )
    trainer = build_trainer(config, log, keep, data, split)
    trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=True)
    scores = task.last_scores
    if trainer.is_global_zero:
        seconds = time.monotonic() - started
        write_json({"step": trainer.global_step, "val": scores, "seconds": seconds}, run_folder / RESULT_FILE)
        _tell(scores, run_folder)
    return scores


def _monitored(monitor: str, split: ClassSplit) -> str:
    """The score that decides ``best.ckpt``; without unseen classes there is no unseen or harmonic one."""
    return "val/miou" if not split.unseen and monitor in ("val/unseen", "val/harmonic") else monitor


def build_task(config: DictConfig, clip: FrozenCLIP, split: ClassSplit) -> SegmentationTask:
    """Model, loss, text and the validation path of a run."""
    model = build_model(plain(config.model), clip.vision)
    if config.init_from:
        _start_from(config.init_from, model, clip)
    protocol = build_protocol(plain(config.protocol))
    if split.setting != "inductive":
        protocol = replace(protocol, seen_penalty=0.0)
    unknown = clip.unknown_words(split.classes)
    if unknown:
        logging.getLogger(__name__).warning(
            "this CLIP (%s) has never read %s: it cannot know what these words mean",
            clip.source,
            ", ".join(unknown),
        )
    info = _describe(config, model, clip, split, protocol)
    segmenter = Pipeline.trained(model, clip, info).segmenter(split)
    # The text tower has done its work; training needs the image tower only.
    clip.text_tower = None
    return SegmentationTask(
        model,
        segmenter.embeddings.vectors,
        split,
        criterion=MaskCriterion(MaskLossWeights(**plain(config.loss))),
        optim=OptimSettings(**plain(config.optim)),
        info=info,
        labeller=lambda image: segmenter.segment(image, scores=False).labels,
        self_training=SelfTrainingSettings(**plain(config.self_training)),
    )


def _start_from(path: str, model: MaskModel, clip: FrozenCLIP) -> None:
    """Take over the weights of another run of the same model on the same CLIP.

    Raises:
        CheckpointError: Missing, unsafe, or of another model or CLIP.
    """
    checkpoint = load_tensors_only(path)
    info = read_info(checkpoint, path)
    check_same(info, model=model_settings(model), fingerprint=clip.fingerprint, path=path)
    load_weights(model, checkpoint["state_dict"], path)


def build_trainer(
    config: DictConfig, log: CsvLog, keep: KeepCheckpoints, data: SegmentationDataModule, split: ClassSplit
) -> pl.Trainer:
    """Lightning's trainer with our checkpoints, log, bar and pictures."""
    panels = ValidationPanels(
        Path(config.output_dir) / "panels", dataset=data.val, split=split, count=config.validation.panels
    )
    steps = min(config.validation.every_steps, config.trainer.max_steps)
    return make_trainer(
        config,
        log,
        [TrainingProgress(), keep, panels],
        val_check_interval=steps * config.trainer.get("accumulate_grad_batches", 1),
        check_val_every_n_epoch=None,
    )


def _describe(
    config: DictConfig,
    model: MaskModel,
    clip: FrozenCLIP,
    split: ClassSplit,
    protocol: InferenceProtocol,
) -> CheckpointInfo:
    source = plain(config.clip)
    if Path(str(source["source"])).exists():
        source["source"] = str(Path(source["source"]).resolve())
    return CheckpointInfo(
        model=model_settings(model),
        clip=source | {"fingerprint": clip.fingerprint},
        templates=resolve_templates(plain(config.templates)),
        split=split,
        protocol=protocol.to_dict(),
    )


def _tell(scores: dict[str, float], run_folder: Path) -> None:
    named = ", ".join(f"{name} {100 * value:.1f}" for name, value in scores.items())
    print(f"done: {named} (mIoU in %). Run folder: {run_folder}")
