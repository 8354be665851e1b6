"""The progress bar of a training run: loss, learning rate, speed, time left, and the latest scores."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LINE_SECONDS = 20.0
"""Where the output is no terminal, one line this often instead of a bar."""


class TrainingProgress(pl.Callback):
    """One bar over all optimiser steps; plain lines where the output goes to a file."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started, self._first_step, self._last_line = 0.0, 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar at the step that the run starts or resumes at."""
        self._started, self._first_step = time.monotonic(), trainer.global_step
        self._last_line = self._started
        if not trainer.is_global_zero or not sys.stderr.isatty():
            return
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}"),
        )
        self._bar = Progress(*columns, console=self._console)
        self._task = self._bar.add_task(
            "training", total=trainer.max_steps, completed=trainer.global_step, told=""
        )
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Show the step just done."""
        if not trainer.is_global_zero:
            return
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=trainer.global_step, told=self._told(trainer, pl_module))
        elif time.monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = time.monotonic()
            self._print(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Leave a line with the scores."""
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._print(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the message stands on a clean line."""
        if self._bar is not None:
            self._bar.stop()

    def _print(self, trainer: pl.Trainer, pl_module: Any) -> None:
        console = self._bar.console if self._bar is not None else self._console
        done, left = trainer.global_step, trainer.max_steps - trainer.global_step
        remaining = left / max(self._rate(trainer), 1e-9)
        console.print(
            f"step {done}/{trainer.max_steps}  {self._told(trainer, pl_module)}  {remaining / 60:.1f} min left",
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
