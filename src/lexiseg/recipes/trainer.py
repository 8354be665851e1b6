"""Lightning's trainer as every recipe wants it."""

import inspect
import logging
import os
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.accelerators import AcceleratorRegistry, CPUAccelerator
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lexiseg.errors import ConfigError
from lexiseg.interruption import interrupted, reclaim_signals
from lexiseg.recipes.settings import TrainerSettings
from lexiseg.training.checkpointing import AtomicCheckpointIO
from lexiseg.training.csv_log import CsvLog

_OURS = (
    "logger",
    "callbacks",
    "plugins",
    "enable_checkpointing",
    "enable_progress_bar",
    "enable_model_summary",
    "use_distributed_sampler",
    "num_sanity_val_steps",
    "log_every_n_steps",
    "default_root_dir",
)
"""Arguments of Lightning's trainer that every run decides itself."""


def trainer_arguments() -> list[str]:
    """Whatever Lightning's trainer takes."""
    return [name for name in inspect.signature(pl.Trainer.__init__).parameters if name != "self"]


def check_trainer(settings: TrainerSettings, *decided: str) -> None:
    """Let Lightning look at its settings, before data or weights are read.

    Args:
        settings: Where and how long.
        decided: Further arguments of Lightning's trainer that the recipe's other settings decide.

    Raises:
        ConfigError: What Lightning says of them, or more processes than this machine has processors.
    """
    own = sorted(set(settings.more) & {*_OURS, *decided})
    if own:
        raise ConfigError(f"trainer: {', '.join(own)} is decided by the run's other settings; leave it out")
    try:
        trainer = pl.Trainer(
            **settings.arguments(), logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
    except (
        MisconfigurationException,
        ValueError,
        TypeError,
        RuntimeError,
        OverflowError,
        ImportError,  # of a kind of device whose package is not installed
    ) as error:
        _require_accelerator(settings.accelerator)
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"trainer: {said}") from error
    processors = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > processors:
        raise ConfigError(
            f"trainer.devices: {trainer.num_devices} processes on processors, of which this machine has {processors}; each "
            "trains on a copy of the model"
        )


def _require_accelerator(name: str) -> None:
    """Refuse a kind of device that torch does not find here.

    Raises:
        ConfigError: Names those that it finds.
    """
    found = [kind for kind in AcceleratorRegistry if AcceleratorRegistry[kind]["accelerator"].is_available()]
    also = ["auto", *(["gpu"] if {"cuda", "mps"} & set(found) else [])]
    if name not in (*found, *also):
        raise ConfigError(
            f"trainer.accelerator={name}: torch finds none on this machine; say trainer.accelerator={', '.join(found)} or auto"
        )


def make_trainer(
    settings: TrainerSettings,
    folder: Path,
    log: CsvLog,
    callbacks: Sequence[pl.Callback],
    *,
    wandb: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    **more: Any,
) -> pl.Trainer:
    """Lightning's trainer with our checkpoints, log and bar.

    Args:
        settings: Where and how long.
        folder: The run's.
        log: The run folder's.
        callbacks: In the order in which they are called.
        wandb: Arguments of Lightning's WandbLogger; None: the log alone.
        record: What Weights & Biases is told of the run.
        more: Further arguments of the trainer.
    """
    loggers: list[Any] = [log]
    if wandb:
        from pytorch_lightning.loggers import WandbLogger

        loggers.append(WandbLogger(**wandb))
        loggers[-1].log_hyperparams(dict(record or {}))
    return pl.Trainer(
        **settings.arguments(),
        **more,
        logger=loggers,
        callbacks=[*callbacks, EndTogether()],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        default_root_dir=str(folder),
    )


class EndTogether(pl.Callback):
    """Lightning's own answer to SIGTERM waits for a batch and for other processes; ours stands, in all processes at once."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has just set its handler."""
        reclaim_signals()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """So it has where only a validation is run."""
        reclaim_signals()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Processes that Lightning launched hear of a SIGTERM that only this one got."""
        launcher = trainer.strategy.launcher
        if interrupted() and launcher is not None:
            launcher.kill(signal.SIGTERM)


def tell_other_batch(settings: TrainerSettings, batch_size: int, processes: int) -> str:
    """A sentence where a published recipe is run at another number of images a step; empty otherwise.

    Args:
        settings: Where and how long.
        batch_size: Images per process and batch.
        processes: That train together.
    """
    accumulated = settings.accumulate_grad_batches
    total = batch_size * processes * accumulated
    if settings.published_batch in (None, total):
        return ""
    made = (
        f"{batch_size} a batch, {processes} process{'es' if processes > 1 else ''}, {accumulated} accumulated"
    )
    return (
        f"note: this recipe was published with {settings.published_batch} images a step, and this run takes {total} ({made}); "
        "rates and steps were not made for that: see trainer.devices, trainer.accumulate_grad_batches and the batch size"
    )


def tell_once(tell: Callable[[str], None], sentence: str) -> None:
    """Tell a sentence, if it is one, in the first process of a run."""
    if sentence and getattr(rank_zero_only, "rank", 0) == 0:
        tell(sentence)


def quiet() -> None:
    """Silence what libraries say about choices that are deliberate here."""
    for name in (
        "pytorch_lightning",
        "lightning_fabric",
        "lightning.fabric",
        "pytorch_lightning.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*resuming from a checkpoint.*",
        ".*lr_scheduler.step.*",
        ".*smaller than the logging interval.*",
        ".*isinstance.treespec.*",
        ".*Checkpoint directory.*exists.*",
        ".*in eval mode at the start of training.*",
    ):
        warnings.filterwarnings("ignore", message)
