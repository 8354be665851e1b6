"""The Lightning module that tunes a CLIP image tower with masks: steps, schedule, checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lexiseg.checkpoints.training_file import PIXEL_CLIP_KEY
from lexiseg.checkpoints.tuning_info import TuningInfo, read_tuning_info
from lexiseg.models.pixel_clip import PixelCLIP
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings
from lexiseg.training.optim import cosine_factor
from lexiseg.training.resumable_task import RESUMED, ResumableTask
from lexiseg.types import MaskBatch


class PixelCLIPTask(ResumableTask):
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

    def training_step(self, batch: MaskBatch, batch_index: int) -> Tensor:
        """Loss of one batch; the teacher follows first, once per optimiser step, as released.

        Raises:
            TrainingError: The loss is not a number.
        """
        if batch_index % self.trainer.accumulate_grad_batches == 0:
            self.model.update_teacher()
        losses = self.model(batch)
        return self.finite_loss(losses, batch.names, len(batch))

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
        """Add the description, besides the random state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[PIXEL_CLIP_KEY] = self.info.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's checkpoint before any weight is touched.

        Raises:
            CheckpointError: Of another model or another CLIP, or with other tensors.
        """
        read_tuning_info(checkpoint, RESUMED).require_same(self.info, RESUMED)
        super().on_load_checkpoint(checkpoint)
