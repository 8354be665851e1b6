"""From a composed configuration to a run: groups become settings, and what carries a ``_target_`` its object.

The only place where Hydra builds anything. Only data carry a ``_target_``: data sets, and what turns them into batches.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from lexiseg.cli.composing import plain
from lexiseg.clip.model import FrozenCLIP
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.data.mask_datamodule import MaskDataModule
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.masks.store import MaskStore
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.recipes.pixelclip import PictureSettings, TuneRun
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
from lexiseg.recipes.training import TrainRun
from lexiseg.training.optim import OptimSettings
from lexiseg.training.self_training import SelfTrainingSettings
from lexiseg.types import ClassSplit

SUPERPIXELS = "superpixels"
"""``masks=superpixels``: made before the first step."""

_TRAINER_KEYS = ("max_steps", "accelerator", "devices", "precision", "accumulate_grad_batches", "strategy")


def training_run(config: DictConfig) -> TrainRun:
    """The run that a composed ``conf/train.yaml`` describes; its settings are read before its data are opened.

    Raises:
        LexisegError: A setting that does not exist, a bad value, or data that are not there.
    """
    record = plain(config)
    settings: dict[str, Any] = {
        "clip": known_settings(ClipSource, record["clip"], "clip"),
        "split": known_settings(SplitSettings, record["split"], "split"),
        "loss": known_settings(MaskLossWeights, record["loss"], "loss"),
        "optim": known_settings(OptimSettings, record["optim"], "optim"),
        "protocol": build_protocol(record["protocol"]),
        "self_training": known_settings(SelfTrainingSettings, record["self_training"], "self_training"),
        "trainer": _trainer(record["trainer"]),
        "validation": known_settings(ValidationSettings, record["validation"], "validation"),
        "checkpoint": known_settings(CheckpointSettings, record["checkpoint"], "checkpoint"),
    }
    same = ("model", "templates", "seed", "resume", "init_from")
    return TrainRun(
        data=open_training_data(config.data),
        output_dir=Path(record["output_dir"]),
        wandb=record["logger"]["wandb"],
        record=record,
        tell=print,
        **settings,
        **{key: record[key] for key in same},
    )


def tuning_run(config: DictConfig) -> TuneRun:
    """The run that a composed ``conf/pixelclip.yaml`` describes, ``images`` and ``masks`` placed.

    Raises:
        ConfigError: A setting that does not exist, or a bad value.
    """
    record = plain(config)
    return TuneRun(
        open_data=lambda: _open_photographs(config),
        output_dir=Path(record["output_dir"]),
        clip=known_settings(ClipSource, record["clip"], "clip"),
        model=known_settings(PixelCLIPSettings, record["model"], "model"),
        optim=known_settings(PixelCLIPOptimSettings, record["optim"], "optim"),
        trainer=_trainer(record["trainer"]),
        checkpoint=known_settings(CheckpointSettings, record["checkpoint"], "checkpoint"),
        pictures=known_settings(PictureSettings, record["pictures"], "pictures"),
        seed=record["seed"],
        resume=record["resume"],
        wandb=record["logger"]["wandb"],
        record=record,
        tell=print,
    )


def open_training_data(config: DictConfig) -> TrainingData:
    """The data that a choice of ``conf/data`` describes.

    Raises:
        LexisegError: What the data layer found wrong, or a key that does not exist.
    """
    built = {
        key: instantiate_config(value) if isinstance(value, DictConfig) else value
        for key, value in config.items()
    }
    return known_settings(TrainingData, {str(key): value for key, value in built.items()}, "data")


def build_split_and_data(config: DictConfig) -> tuple[ClassSplit, SegmentationDataModule]:
    """The split and the data module of a training configuration.

    Raises:
        LexisegError: What the data layer found wrong, without Hydra's wrapping.
    """
    data = open_training_data(config.data)
    split = known_settings(SplitSettings, plain(config.split), "split").of(data.train.classes)
    return split, data.module(split, config.seed)


def build_clip(settings: Mapping[str, Any]) -> FrozenCLIP:
    """Load the CLIP that a choice of ``conf/clip`` describes."""
    return known_settings(ClipSource, plain(settings), "clip").load()


def build_protocol(settings: Mapping[str, Any]) -> InferenceProtocol:
    """The inference protocol that a choice of ``conf/train/protocol`` describes."""
    return InferenceProtocol.from_dict(dict(settings))


def instantiate_config(config: Any, **kwargs: Any) -> Any:
    """Hydra's instantiate, with the user's mistake as the error instead of Hydra's account of the call."""
    try:
        return instantiate(config, **kwargs)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, LexisegError):
            raise cause from None
        raise ConfigError(f"{str(error).splitlines()[0]}") from error


def _trainer(values: Mapping[str, Any]) -> TrainerSettings:
    """Lightning's own further arguments stay what they are."""
    own = {key: value for key, value in values.items() if key in _TRAINER_KEYS}
    more = {key: value for key, value in values.items() if key not in _TRAINER_KEYS}
    return known_settings(TrainerSettings, {**own, "more": more}, "trainer")


def _open_photographs(config: DictConfig) -> MaskDataModule:
    """Photographs and masks; superpixels are made first where the configuration asks for them."""
    if config.masks == SUPERPIXELS:
        place = config.mask_data.train.masks
        store = MaskStore(Path(place.folder), Path(place.root))
        make_superpixels(Path(config.mask_data.train.images), store, print)
    module: MaskDataModule = instantiate_config(config.mask_data)
    return module
