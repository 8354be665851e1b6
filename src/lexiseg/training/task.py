"""The Lightning module: one training step, validation on the very path that prediction takes, checkpoints."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.checkpoints.info import CheckpointInfo
from lexiseg.checkpoints.training_file import (
    CHECKPOINT_KEY,
    check_same,
    read_info,
    with_present_names,
)
from lexiseg.errors import TrainingError
from lexiseg.label_codes import label_codes
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.open_seg_criterion import OpenSegCriterion
from lexiseg.losses.segment_criterion import SegmentCriterion
from lexiseg.losses.segment_targets import captioned_targets, instance_targets, segment_targets
from lexiseg.metrics.segmentation import ZeroShotMetric
from lexiseg.models.momentum_teacher import MomentumTeacher
from lexiseg.models.region_model import RegionModel
from lexiseg.segments import SegmentMap
from lexiseg.training.optim import OptimSettings, build_optimizer
from lexiseg.training.resumable_task import RESUMED, ResumableTask
from lexiseg.training.self_training import SelfTrainingSettings, pseudo_labels
from lexiseg.types import ClassSplit, MaskModel, MaskOutput, SegBatch, SegmentOutput

Labeller = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.integer[Any]]]
"""``(H, W, 3)`` uint8 RGB to ``(H, W)`` class ids: the segmenter, handed in by whoever composes a run."""


class SegmentationTask(ResumableTask):
    """Trains a mask model on the split's seen classes and judges it on all.

    Args:
        model: The mask model; its frozen tower is no part of the state dict.
        text: ``(K, E)`` unit text embeddings of all classes of the split, in label-id order.
        split: Seen and unseen classes.
        criterion: The mask loss; a loss of regions for a model that names them.
        optim: Optimiser and schedule.
        info: Description written into every checkpoint.
        labeller: Whole-image segmentation over all classes, for validation.
        self_training: How unlabelled pixels of a transductive split get their labels.
        caption_text: ``(V, E)`` unit text embeddings of the words of captions, where those are what is learnt from.
    """

    text: Tensor
    caption_text: Tensor | None
    query_of_label: Tensor

    def __init__(  # noqa: PLR0913  (a recipe hands in each part of a run once)
        self,
        model: MaskModel,
        text: Tensor,
        split: ClassSplit,
        *,
        criterion: MaskCriterion | SegmentCriterion | OpenSegCriterion,
        optim: OptimSettings,
        info: CheckpointInfo,
        labeller: Labeller,
        self_training: SelfTrainingSettings | None = None,
        caption_text: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model, self.split, self.criterion, self.optim, self.info = model, split, criterion, optim, info
        self.labeller = labeller
        self.metric = ZeroShotMetric(split)
        self.last_scores: dict[str, float] = {}
        training_ids = torch.tensor(split.training_ids)
        self.register_buffer("text", text[training_ids], persistent=False)
        self.register_buffer("caption_text", caption_text, persistent=False)
        codes, query_codes = label_codes(len(split.classes)), label_codes(len(training_ids))
        query_of_label = torch.full((codes.size,), -1, dtype=torch.long)
        query_of_label[training_ids] = torch.arange(len(training_ids))
        query_of_label[codes.ignore] = query_codes.ignore
        self.self_training = self_training or SelfTrainingSettings()
        self.teacher: MomentumTeacher | None = None
        self._followed = 0
        if split.setting == "transductive":
            query_of_label[codes.unlabelled] = query_codes.unlabelled
            if self.self_training.teacher_decay:
                self.teacher = MomentumTeacher(
                    cast(nn.Module, model), self.self_training.teacher_decay, shared=[model.tower]
                )
        self.register_buffer("query_of_label", query_of_label, persistent=False)

    def training_step(self, batch: SegBatch, batch_index: int) -> Tensor:
        """Loss of one batch.

        Raises:
            TrainingError: An unseen label reached an inductive loss, or the loss is not a number.
        """
        images = self.model.normalize(batch.images)
        if self.caption_text is not None:
            losses = self._caption_losses(images, batch, self.caption_text)
            return self.finite_loss(losses, batch.names, len(batch))
        queries = self._queries(batch)
        if isinstance(self.model, RegionModel):
            ignore = label_codes(len(self.text)).ignore
            images, queries = _padded(images, queries, self.model.patch_size, ignore)
        output = self.model(images, self.text)
        if self.split.setting == "transductive":
            queries = self._with_pseudo_labels(queries, images, output.logits)
        return self.finite_loss(self._losses(output, queries, batch.segments), batch.names, len(batch))

    def _caption_losses(self, images: Tensor, batch: SegBatch, text: Tensor) -> dict[str, Tensor]:
        """The criterion's, of masks without names and of the words of a caption each."""
        images, _ = _padded(images, batch.labels, self.model.patch_size, label_codes(len(self.text)).ignore)
        output = cast(SegmentOutput, self.model(images, text))
        targets = captioned_targets(batch.segments, batch.words, (images.shape[2], images.shape[3]))
        return dict(self.criterion(output.predictions, targets))

    def _losses(
        self, output: MaskOutput | SegmentOutput, queries: Tensor, segments: Sequence[SegmentMap]
    ) -> dict[str, Tensor]:
        """The criterion's, of class masks as of regions; regions learn things one by one where the data tell them apart."""
        if isinstance(output, SegmentOutput):
            if segments:
                height, width = queries.shape[-2:]
                targets = instance_targets(segments, self.query_of_label, (height, width))
            else:
                targets = segment_targets(queries, len(self.text))
            return dict(self.criterion(output.predictions, targets))
        return dict(self.criterion(output.logits, queries, output.stage_logits))

    def on_train_batch_start(self, batch: SegBatch, batch_index: int) -> None:
        """Let the teacher follow, once per optimiser step, before the next one.

        A checkpoint is written right after a step; following before the next, a resumed run's teacher does what an
        uninterrupted one's did.
        """
        super().on_train_batch_start(batch, batch_index)
        if self.teacher is not None and self.trainer.global_step != self._followed:
            self.teacher.update(cast(nn.Module, self.model))
        self._followed = self.trainer.global_step

    def validation_step(self, batch: SegBatch, batch_index: int) -> None:
        """Count one image into the data-set-level confusion matrix."""
        for image, label in zip(batch.images, batch.labels, strict=True):
            predicted = self.labeller(image.permute(1, 2, 0).cpu().numpy())
            self.metric.update(
                torch.from_numpy(predicted.astype(np.int64)).to(label.device)[None], label[None]
            )

    def on_validation_epoch_end(self) -> None:
        """Compute the scores from the counts of all processes, log them, start counting anew."""
        scores = self.metric.compute()
        self.metric.reset()
        self.last_scores = {name: float(value) for name, value in scores.summary().items()}
        self.log_dict(
            {f"val/{name}": value for name, value in self.last_scores.items()}, rank_zero_only=False
        )
        for name, value in scores.per_class().items():
            self.log(f"val_iou/{name}", value)

    def configure_optimizers(self) -> Any:
        """AdamW over what trains, its schedule stepped every optimiser step."""
        steps = self.optim.schedule_steps or self.trainer.max_steps
        optimizer, schedule = build_optimizer(self.model, self.optim, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description, besides the random state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY] = self.info.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another model's checkpoint before any weight is touched.

        Raises:
            CheckpointError: Of another model or another CLIP, or with other tensors.
        """
        info = read_info(checkpoint, RESUMED)
        check_same(info, model=self.info.model, fingerprint=self.info.clip["fingerprint"], path=RESUMED)
        checkpoint["state_dict"] = with_present_names(checkpoint["state_dict"])
        super().on_load_checkpoint(checkpoint)

    @torch.no_grad()
    def _with_pseudo_labels(self, queries: Tensor, images: Tensor, logits: Tensor) -> Tensor:
        """Query i is class i in a transductive split, so unseen ids are query indices."""
        if self.teacher is not None:
            logits = self.teacher(images, self.text).logits
        confidence = self.self_training.confidence
        return pseudo_labels(logits, queries, self.split.unseen_ids, confidence=confidence)

    def _queries(self, batch: SegBatch) -> Tensor:
        """Labels as indices into the training text, ``(B, H, W)``; an id that may not be seen stops the run."""
        queries = self.query_of_label[batch.labels]
        if bool((queries < 0).any()):
            ids = torch.unique(batch.labels[queries < 0]).tolist()
            names = [self.split.classes[i] if i < len(self.split.classes) else f"id {i}" for i in ids]
            raise TrainingError(
                f"label {', '.join(names)} of {', '.join(batch.names[:4])} reached an {self.split.setting} loss, which may "
                f"see only {', '.join(self.split.seen[:6])}…; hide unseen labels with seen_label_map before training"
            )
        return queries


def _padded(images: Tensor, queries: Tensor, stride: int, ignore: int) -> tuple[Tensor, Tensor]:
    """Zeros (of labels, the ignored one) at the right and bottom up to multiples of the stride, as at test time."""
    height, width = images.shape[-2:]
    sides = (0, -width % stride, 0, -height % stride)
    return F.pad(images, sides), F.pad(queries, sides, value=ignore)
