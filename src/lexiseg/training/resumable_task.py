"""What both Lightning modules share: going on from a checkpoint exactly, and stopping at a loss that is no number."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lexiseg.checkpoints.training_file import check_resumable
from lexiseg.errors import TrainingError
from lexiseg.training.random_state import RANDOM_STATE_KEY, random_state, restore_random_state

RESUMED = "the checkpoint to resume from"
"""What messages call it."""


class ResumableTask(pl.LightningModule):
    """A run that goes on from a checkpoint bit for bit as if it had never stopped."""

    def __init__(self) -> None:
        super().__init__()
        self._pending_rng: dict[str, Any] | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the random state, so that the run goes on exactly from here."""
        checkpoint[RANDOM_STATE_KEY] = random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the random state for the first step.

        Raises:
            CheckpointError: With other tensors than this task has.
        """
        check_resumable(checkpoint, self.state_dict(), RESUMED)
        self._pending_rng = checkpoint[RANDOM_STATE_KEY]

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Set the random state after everything that could draw from it on the way here."""
        if self._pending_rng is not None:
            restore_random_state(self._pending_rng)
            self._pending_rng = None

    def finite_loss(self, losses: Mapping[str, Tensor], names: Sequence[str], images: int) -> Tensor:
        """The loss of a step, logged with its parts.

        Args:
            losses: ``loss`` and whatever else is to be logged.
            names: Of the batch's images.
            images: How many.

        Raises:
            TrainingError: It is not a number.
        """
        if not torch.isfinite(losses["loss"]):
            raise TrainingError(
                f"the loss became {float(losses['loss'])} at step {self.global_step} (images {', '.join(names[:4])}); expected "
                "a finite number. Lower optim.lr, use trainer.precision=32-true, or look at these images; the last checkpoint "
                "is good"
            )
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=images)
        return losses["loss"]
