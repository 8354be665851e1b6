"""Checkpoints that a kill at any moment cannot spoil."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.storage import write_atomically

LAST = "last.ckpt"
BEST = "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """The name always holds a whole file, old or new, forced to disk. Reads tensors and plain values only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save; a kill leaves either the old or the new checkpoint under ``path``."""

        def write(part: Path) -> None:
            with part.open("wb") as file:
                torch.save(checkpoint, file)

        write_atomically(Path(path), write, durable=True)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load tensors and plain values.

        Raises:
            CheckpointError: Missing, damaged, or asking to run code.
        """
        return load_tensors_only(path, map_location or "cpu")


class KeepCheckpoints(pl.Callback):
    """``last.ckpt`` every so many steps and at the end, ``best.ckpt`` at the best validation score.

    Args:
        folder: Where both stand.
        every_steps: Optimiser steps between writes of ``last.ckpt``; a kill costs at most that many.
        monitor: Logged score that decides what is best; higher is better.
    """

    def __init__(self, folder: Path | str, *, every_steps: int = 500, monitor: str = "val/harmonic") -> None:
        self.folder, self.every_steps, self.monitor = Path(folder), every_steps, monitor
        self.best_score = float("-inf")
        self._saved_at = -1

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save on the interval; with gradient accumulation only where a step was completed."""
        step = trainer.global_step
        if step and step % self.every_steps == 0 and step != self._saved_at:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the best model so far."""
        score = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or score is None or not float(score) > self.best_score:
            return
        self.best_score = float(score)
        trainer.save_checkpoint(self.folder / BEST)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The finished model is always ``last.ckpt``."""
        if trainer.global_step != self._saved_at:
            self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far travels with the checkpoint."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best score so far."""
        self.best_score = state_dict["best_score"]

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(self.folder / LAST)
