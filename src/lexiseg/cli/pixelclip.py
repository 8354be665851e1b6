"""``lexiseg pixelclip``: tune a CLIP image tower with masks without names, and write it as a CLIP like any other."""

import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf

from lexiseg.cli.building import build_clip, instantiate_config
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
from lexiseg.clip.saving import save_clip
from lexiseg.clip.vocabulary import embed_words
from lexiseg.data.class_files import builtin_classes, read_class_file
from lexiseg.data.image_folder import find_images
from lexiseg.data.io import read_image
from lexiseg.data.mask_datamodule import MaskDataModule
from lexiseg.data.toy.world import TOY_CLASSES
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.build import MaskTask, build_masks
from lexiseg.masks.store import MaskStore
from lexiseg.masks.superpixels import Superpixels
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.progress import with_progress
from lexiseg.storage import write_json
from lexiseg.training.checkpointing import LAST, KeepCheckpoints
from lexiseg.training.cluster_examples import TypicalMasks
from lexiseg.training.cluster_panels import ClusterPanels
from lexiseg.training.pixel_clip_task import PixelCLIPTask, read_tuning_info
from lexiseg.training.progress import TrainingProgress

CLIP_FOLDER = "clip"
"""In the run folder: the tuned CLIP."""

CLUSTERS_FILE = "clusters.png"
_RESULT_FILE = "result.json"
_SUPERPIXELS = "superpixels"
_IMAGES_PER_PROCESS = 16
"""Masks of fewer photographs take less time than starting a process."""


def run_pixelclip(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    config = compose_config("pixelclip", [o for o in overrides if o != "--config"])
    _place_data(config)
    if "--config" in overrides:
        print(OmegaConf.to_yaml(config))
        return 0
    tune(config)
    return 0


def tune(config: DictConfig) -> Path:
    """One run from a composed configuration.

    Returns:
        The folder of the tuned CLIP.
    """
    quiet()
    run_folder = Path(config.output_dir)
    tuned = run_folder / CLIP_FOLDER
    if _is_finished(config, run_folder):
        print(f"the run in {run_folder} is complete; resume=false starts it anew")
        return tuned
    started = time.monotonic()
    resume_from = resume_path(config, run_folder)
    step = resumed_step(resume_from, read_tuning_info)
    pl.seed_everything(config.seed, verbose=False)
    clip = build_clip(config.clip)
    if config.masks == _SUPERPIXELS:
        _make_masks(config)
    data, without = _open_data(config)
    task = build_task(config, clip)
    callbacks: list[pl.Callback] = [
        TrainingProgress(),
        KeepCheckpoints(run_folder, every_steps=config.checkpoint.every_steps),
    ]
    if task.model.prompts is not None:
        callbacks.append(_panels(config, data, clip))
    log = open_run_folder(config, run_folder, resume_from, step)
    trainer = make_trainer(config, log, callbacks, gradient_clip_val=task.optim.gradient_clip or None)
    trainer.fit(task, datamodule=data, ckpt_path=resume_from, weights_only=True)
    if trainer.is_global_zero:
        _export(clip, task.model, tuned)
        result = {
            "step": trainer.global_step,
            "images": len(data.train),
            "without_masks": without,
            "loss": float(trainer.callback_metrics["train/loss"]),
            "seconds": time.monotonic() - started,
        }
        write_json(result, run_folder / _RESULT_FILE)
        print(f"done: the tuned CLIP is {tuned}. Run folder: {run_folder}")
    return tuned


def build_task(config: DictConfig, clip: FrozenCLIP) -> PixelCLIPTask:
    """Model, optimiser and description of a run.

    Raises:
        LexisegError: A CLIP without a text tower, which could not be written as a CLIP either, or a bad setting.
    """
    model = PixelCLIP(clip.tower, clip.require_text(), PixelCLIPSettings(**plain(config.model)))
    source = {"source": clip.source, "fingerprint": clip.fingerprint}
    return PixelCLIPTask(model, optim=PixelCLIPOptimSettings(**plain(config.optim)), clip=source)


def _export(clip: FrozenCLIP, model: PixelCLIP, folder: Path) -> None:
    """Write the CLIP with its tuned image tower, in the layout that its kind of tower has."""
    clip.tower = model.tuned_tower().cpu()
    save_clip(clip.cpu(), folder)


def read_words(words: str | Sequence[str]) -> tuple[str, ...]:
    """Words that clusters are compared with: a list, ``toy``, a text file, or the name of a shipped class list.

    Raises:
        LexisegError: No such list, or a file that is none.
    """
    if not isinstance(words, str):
        return tuple(str(word) for word in words)
    if words == "toy":
        return TOY_CLASSES
    groups = read_class_file(words) if Path(words).is_file() else builtin_classes(words)
    return tuple(group[0] for group in groups)


def _place_data(config: DictConfig) -> None:
    """Put ``images`` and ``masks`` where the data's own keys are.

    Raises:
        ConfigError: The data set does not read a folder.
    """
    given = [key for key in ("images", "masks") if config[key] is not None]
    if given and "images" not in config.mask_data.train:
        raise ConfigError(
            f"{', '.join(given)}: this mask_data reads no folder of photographs; choose mask_data=folder, or leave it out"
        )
    if config.images is not None:
        config.mask_data.root = config.images
        config.mask_data.train.images = config.images
        config.mask_data.train.masks.root = config.images
    if config.masks is not None:
        made = Path(config.output_dir) / "masks" if config.masks == _SUPERPIXELS else config.masks
        config.mask_data.train.masks.folder = str(made)


def _open_data(config: DictConfig) -> tuple[MaskDataModule, int]:
    """The data module, and how many of the photographs looked at have no mask; what was left out is said.

    Raises:
        LexisegError: No photograph, or no mask to learn from.
    """
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        data: MaskDataModule = instantiate_config(config.mask_data)
        without = data.check_masks()
    for remark in remarks:
        print(f"note: {remark.message}", file=sys.stderr)
    return data, without


def _make_masks(config: DictConfig) -> None:
    """Superpixels of every photograph that has none yet; damaged photographs are named and left out.

    Raises:
        ConfigError: Under torchrun, where every process would make them.
        DataError: Not one photograph could be read.
    """
    if dist.is_torchelastic_launched():
        raise ConfigError(
            "masks=superpixels: processes started by torchrun cannot make masks together; run `lexiseg masks build` on the "
            "photographs first and leave masks out, or start with trainer=ddp trainer.devices=N instead of torchrun"
        )
    place = config.mask_data.train.masks
    root, folder = Path(config.mask_data.train.images), Path(place.folder)
    store = MaskStore(folder, Path(place.root))
    tasks = [MaskTask(image, store) for image in find_images(root)]
    workers = min(os.cpu_count() or 1, -(-len(tasks) // _IMAGES_PER_PROCESS))
    outcomes = build_masks(tasks, Superpixels(), read_image, workers=workers)
    done = list(with_progress(outcomes, "making masks", len(tasks)))
    failed = [outcome for outcome in done if outcome.status == "failed"]
    for outcome in failed:
        print(f"skipped: {outcome.reason}")
    if len(failed) == len(done):
        raise DataError(f"none of {len(done)} images in {root} can be read; the messages above say why")


def _panels(config: DictConfig, data: MaskDataModule, clip: FrozenCLIP) -> ClusterPanels:
    pictures = config.pictures
    words = read_words(plain(pictures.words))
    typical = TypicalMasks(
        data.train, data.views, images=pictures.images, examples=pictures.examples, seed=config.seed
    )
    return ClusterPanels(
        Path(config.output_dir) / CLUSTERS_FILE,
        typical=typical,
        words=words,
        embeddings=embed_words(clip, words, (config.model.prompt_template,)),
        every_steps=pictures.every_steps,
    )


def _is_finished(config: DictConfig, folder: Path) -> bool:
    """Whether a run of these settings has come to its end there."""
    result = folder / _RESULT_FILE
    if config.resume != "auto" or not result.is_file() or not (folder / LAST).is_file():
        return False
    check_same_run(config, folder)
    return bool(json.loads(result.read_text())["step"] == config.trainer.max_steps)
