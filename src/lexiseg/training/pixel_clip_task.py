"""The Lightning module that tunes a CLIP image tower with masks: steps, schedule, checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lexiseg.checkpoints.training_file import PIXEL_CLIP_KEY, check_resumable
from lexiseg.errors import CheckpointError, TrainingError
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings
from lexiseg.training.optim import cosine_factor
from lexiseg.training.random_state import RANDOM_STATE_KEY, random_state, restore_random_state
from lexiseg.types import MaskBatch

_FORMAT = 1


@dataclass(frozen=True)
class TuningInfo:
    """What a checkpoint says of itself. Plain values only.

    Attributes:
        model: The fields of :class:`~lexiseg.models.pixel_clip_settings.PixelCLIPSettings`.
        clip: ``source`` and ``fingerprint`` of the CLIP that is tuned.
    """

    model: dict[str, Any]
    clip: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dictionaries, text and numbers, readable with ``weights_only=True``."""
        model = {key: list(value) if isinstance(value, tuple) else value for key, value in self.model.items()}
        return {"format": _FORMAT, "model": model, "clip": self.clip}

    def differences(self, other: "TuningInfo") -> list[str]:
        """In what another description differs, each with both values."""
        mine, theirs = self.to_dict(), other.to_dict()
        told = [
            f"model.{key}: {mine['model'].get(key)}, now {theirs['model'].get(key)}"
            for key in sorted({*mine["model"], *theirs["model"]})
            if mine["model"].get(key) != theirs["model"].get(key)
        ]
        if mine["clip"].get("fingerprint") != theirs["clip"].get("fingerprint"):
            told.append(
                f"clip: {mine['clip'].get('source')} with fingerprint {mine['clip'].get('fingerprint')}, now "
                f"{theirs['clip'].get('source')} with {theirs['clip'].get('fingerprint')}"
            )
        return told


def read_tuning_info(checkpoint: Mapping[str, Any], path: Path | str) -> TuningInfo:
    """The description inside a loaded checkpoint.

    Raises:
        CheckpointError: It has none, a damaged one, or one of another format.
    """
    values = checkpoint.get(PIXEL_CLIP_KEY)
    if not isinstance(values, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f"{path}: not a checkpoint of `lexiseg pixelclip`; give the last.ckpt of such a run"
        )
    if values.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {values.get('format')}, this version reads {_FORMAT}; update lexiseg or train again"
        )
    model, clip = values.get("model"), values.get("clip")
    if not isinstance(model, dict) or not isinstance(clip, dict):
        raise CheckpointError(f"{path}: its description cannot be used; train again")
    return TuningInfo(model, clip)


class PixelCLIPTask(pl.LightningModule):
    """Trains a :class:`~lexiseg.models.pixel_clip.PixelCLIP`; nothing is labelled, so nothing is validated.

    A checkpoint holds what trains, the teacher, the optimiser and the random state; neither tower's frozen weights.

    Args:
        model: Its frozen towers are no part of the state dict.
        optim: Optimiser and schedule.
        clip: ``source`` and ``fingerprint`` of the CLIP that is tuned, for the checkpoint.
    """

    def __init__(self, model: PixelCLIP, *, optim: PixelCLIPOptimSettings, clip: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.optim = model, optim
        self.info = TuningInfo(asdict(model.settings), dict(clip))
        self._pending_rng: dict[str, Any] | None = None

    def training_step(self, batch: MaskBatch, batch_index: int) -> Tensor:
        """Loss of one batch; the teacher follows first, once per optimiser step, as released.

        Raises:
            TrainingError: The loss is not a number.
        """
        if batch_index % self.trainer.accumulate_grad_batches == 0:
            self.model.update_teacher()
        losses = self.model(batch)
        told = {f"train/{name}": value.detach() for name, value in losses.items()}
        if not torch.isfinite(losses["loss"]):
            raise TrainingError(
                f"the loss became {float(told['train/loss'])} at step {self.global_step} (images "
                f"{', '.join(batch.names[:4])}); expected a finite number. Lower optim.lr, use trainer.precision=32-true, "
                "or look at these images; the last checkpoint is good"
            )
        self.log_dict(told, batch_size=len(batch))
        return losses["loss"]

    def configure_optimizers(self) -> Any:
        """AdamW with one learning rate per part, all on one cosine stepped every optimiser step."""
        optim, steps = self.optim, self.trainer.max_steps
        groups = self.model.parameter_groups(optim)
        optimizer = torch.optim.AdamW(groups, betas=optim.betas, eps=optim.eps)

        def factor(step: int) -> float:
            return cosine_factor(step, steps, optim.final_factor)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description and the random state, so that the run goes on exactly from here."""
        checkpoint[PIXEL_CLIP_KEY] = self.info.to_dict()
        checkpoint[RANDOM_STATE_KEY] = random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's checkpoint before any weight is touched, and keep the random state for the first step.

        Raises:
            CheckpointError: Of another model or another CLIP, or with other tensors.
        """
        path = "the checkpoint to resume from"
        differences = read_tuning_info(checkpoint, path).differences(self.info)
        if differences:
            raise CheckpointError(
                f"{path} is of another model ({'; '.join(differences)}); use its settings or start a new run"
            )
        check_resumable(checkpoint, self.state_dict(), path)
        self._pending_rng = checkpoint[RANDOM_STATE_KEY]

    def on_train_batch_start(self, batch: MaskBatch, batch_index: int) -> None:
        """Set the random state after everything that could draw from it on the way here."""
        if self._pending_rng is not None:
            restore_random_state(self._pending_rng)
            self._pending_rng = None
