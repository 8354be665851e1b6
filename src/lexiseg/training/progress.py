"""The progress of a training run: loss, learning rate, speed, time left, and the latest scores."""

import math
import time
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from lexiseg.progress import Doing, doing, tell_seconds


class TrainingProgress(pl.Callback):
    """All optimiser steps as one work, each validation as another, and a line with the scores after it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True)
        self._training, self._validating = ExitStack(), ExitStack()
        self._steps, self._images = Doing("training"), Doing("validating")
        self._started, self._first_step = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin at the step that the run starts or resumes at."""
        self._started, self._first_step = time.monotonic(), trainer.global_step
        if trainer.is_global_zero:
            work = doing("training", trainer.max_steps, done=trainer.global_step)
            self._steps = self._training.enter_context(work)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Tell of the step just done."""
        self._steps.done, self._steps.told = trainer.global_step, self._told(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the images of this validation."""
        if trainer.is_global_zero:
            batches = sum(trainer.num_val_batches)
            total = int(batches) if math.isfinite(batches) else None
            self._images = self._validating.enter_context(doing("validating", total))

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Tell of the images just judged."""
        self._images.advance()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Leave a line with the scores."""
        self._validating.close()
        # Before any step there is neither a loss nor a speed: a model that has nothing to train is only judged.
        if trainer.is_global_zero and not trainer.sanity_checking and trainer.global_step:
            self._print(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The steps are done."""
        self._training.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Nothing goes on any more."""
        self._validating.close()
        self._training.close()

    def _print(self, trainer: pl.Trainer, pl_module: Any) -> None:
        done, left = trainer.global_step, trainer.max_steps - trainer.global_step
        remaining = left / max(self._rate(trainer), 1e-9)
        self._console.print(
            f"step {done}/{trainer.max_steps}  {self._told(trainer, pl_module)}  {tell_seconds(remaining)} left",
            highlight=False,
        )

    def _rate(self, trainer: pl.Trainer) -> float:
        return (trainer.global_step - self._first_step) / max(time.monotonic() - self._started, 1e-9)

    def _told(self, trainer: pl.Trainer, pl_module: Any) -> str:
        told = []
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None:
            told.append(f"loss {float(loss):.2f}")
        if trainer.optimizers:
            told.append(f"lr {trainer.optimizers[0].param_groups[0]['lr']:.1e}")
        told.append(f"{self._rate(trainer):.2f} steps/s")
        scores = getattr(pl_module, "last_scores", {})
        if scores:
            named = (("seen", "S"), ("unseen", "U"), ("harmonic", "H"))
            told.append(
                " ".join(f"{letter} {100 * scores[name]:.1f}" for name, letter in named if name in scores)
            )
        return "  ".join(told)
