"""The Lightning module that adapts a CLIP image tower to regions cut out of photographs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from lexiseg.checkpoints.training_file import ADAPTATION_KEY
from lexiseg.checkpoints.tuning_info import TuningInfo, read_tuning_info
from lexiseg.models.mask_adaptation import AdaptationSettings, MaskAdaptation
from lexiseg.training.optim import OptimSettings, build_optimizer
from lexiseg.training.resumable_task import RESUMED, ResumableTask
from lexiseg.types import PairBatch


class AdaptationTask(ResumableTask):
    """Trains a :class:`~lexiseg.models.mask_adaptation.MaskAdaptation`; nothing is validated.

    Args:
        model: Holds what learns; a frozen tower is no part of the state dict.
        texts: ``(V, E)`` unit embeddings of all words.
        settings: As the model was built by, for the checkpoint.
        optim: Optimiser and schedule.
        clip: ``source`` and ``fingerprint`` of the CLIP that is adapted, for the checkpoint.
    """

    texts: Tensor

    def __init__(
        self,
        model: MaskAdaptation,
        texts: Tensor,
        *,
        settings: AdaptationSettings,
        optim: OptimSettings,
        clip: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.model, self.optim = model, optim
        self.register_buffer("texts", texts, persistent=False)
        self.info = TuningInfo(asdict(settings), dict(clip))

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Loss of one batch.

        Raises:
            TrainingError: The loss is not a number.
        """
        loss = self.model(batch.regions, batch.masks, self.texts[batch.words])
        return self.finite_loss({"loss": loss}, batch.names, len(batch))

    def configure_optimizers(self) -> Any:
        """The optimiser over what learns, its schedule stepped every optimiser step."""
        steps = self.optim.schedule_steps or self.trainer.max_steps
        optimizer, schedule = build_optimizer(self.model, self.optim, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step, after which the scale of cosines is brought back to where CLIP keeps it."""
        super().optimizer_step(*args, **kwargs)
        self.model.clamp_scale()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description, besides the random state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[ADAPTATION_KEY] = self.info.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's checkpoint before any weight is touched.

        Raises:
            CheckpointError: Of another model or another CLIP, or with other tensors.
        """
        read_tuning_info(checkpoint, RESUMED, ADAPTATION_KEY).require_same(self.info, RESUMED)
        super().on_load_checkpoint(checkpoint)
