"""What every training command has in common: a run folder that goes on only as the run it holds, and the trainer."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.cli.composing import plain
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.training.checkpointing import LAST, AtomicCheckpointIO
from lexiseg.training.csv_log import FILE_NAME as LOG_FILE
from lexiseg.training.csv_log import CsvLog
from lexiseg.training.random_state import RANDOM_STATE_KEY

_CONFIG_FILE = "config.yaml"
_TRAINING_STATE = (
    "global_step",
    "epoch",
    "optimizer_states",
    "lr_schedulers",
    "loops",
    "callbacks",
    RANDOM_STATE_KEY,
    "pytorch-lightning_version",
)
"""What a checkpoint holds beside weights where a run can go on from it; an imported one has none of it."""

_NOT_COMPARED = ("resume", "output_dir", "trainer", "logger", "validation", "checkpoint", "pictures")
"""Settings that may change between a run and its resumption."""

ReadDescription = Callable[[Mapping[str, Any], Path], object]
"""Reads what a loaded checkpoint says of itself; raises :class:`CheckpointError` for another kind's."""


def resume_path(config: DictConfig, run_folder: Path) -> Path | None:
    """The checkpoint to go on from, or None.

    Raises:
        CheckpointError: ``resume`` names no file.
        ConfigError: The folder holds a run with other settings.
    """
    resume = config.resume
    if resume is False or resume is None:
        return None
    last = run_folder / LAST
    if resume is not True and str(resume) != "auto":
        if not Path(resume).is_file():
            raise CheckpointError(f"resume={resume}: no such file; give a last.ckpt, auto or false")
        return Path(resume)
    if not last.is_file():
        return None
    check_same_run(config, run_folder)
    return last


def resumed_step(path: Path | None, read: ReadDescription) -> int:
    """Step that a run goes on from; reading it early refuses a bad checkpoint before anything is built."""
    if path is None:
        return 0
    checkpoint = load_tensors_only(path)
    read(checkpoint, path)
    absent = [key for key in _TRAINING_STATE if key not in checkpoint]
    if absent:
        raise CheckpointError(
            f"{path}: holds no {', '.join(absent[:3])}, so no run can go on from it; to start from its weights, give "
            f"resume=false init_from={path}"
        )
    return int(checkpoint["global_step"])


def check_same_run(config: DictConfig, run_folder: Path) -> None:
    """A folder goes on only as the run that it holds.

    Raises:
        ConfigError: Names the settings that differ.
    """
    recorded = run_folder / _CONFIG_FILE
    if not recorded.is_file():
        return
    before, now = plain(OmegaConf.load(recorded)), plain(config)
    changed = [key for key in now if key not in _NOT_COMPARED and before.get(key) != now[key]]
    if changed:
        raise ConfigError(
            f"{run_folder} holds a run with other settings ({', '.join(changed)}); choose another name=, or resume=false to "
            "start anew in its place"
        )


def open_run_folder(config: DictConfig, run_folder: Path, resume_from: Path | None, step: int) -> CsvLog:
    """Make the folder, write the configuration into it, and open its log at the step the run goes on from."""
    run_folder.mkdir(parents=True, exist_ok=True)
    log = CsvLog(run_folder)
    if resume_from is None:
        (run_folder / LOG_FILE).unlink(missing_ok=True)
    else:
        log.rewind(step)
    (run_folder / _CONFIG_FILE).write_text(OmegaConf.to_yaml(config))
    return log


def make_trainer(
    config: DictConfig, log: CsvLog, callbacks: Sequence[pl.Callback], **settings: Any
) -> pl.Trainer:
    """Lightning's trainer as ``config.trainer`` asks for it, with our checkpoints, log and bar.

    Args:
        config: With ``trainer``, ``logger`` and ``output_dir``.
        log: The run folder's.
        callbacks: In the order in which they are called.
        settings: Further arguments of the trainer.
    """
    chosen = plain(config.trainer)
    chosen.pop("_target_")
    loggers: list[Any] = [log]
    wandb_settings = plain(config.logger).get("wandb")
    if wandb_settings:
        loggers.append(instantiate(wandb_settings))
        loggers[-1].log_hyperparams(plain(config))
    return pl.Trainer(
        **chosen,
        **settings,
        logger=loggers,
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        default_root_dir=config.output_dir,
    )


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
    ):
        warnings.filterwarnings("ignore", message)
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*isinstance.treespec.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists.*")
