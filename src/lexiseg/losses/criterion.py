"""The mask criterion of ZegCLIP, SPT-SEG and Cascade-CLIP as a module: loss, its normalisation over processes, guards."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lexiseg.errors import TrainingError
from lexiseg.label_codes import label_codes
from lexiseg.losses.fused import MaskLossWeights, count_masks, fused_mask_loss
from lexiseg.losses.pixel_cross_entropy import pixel_cross_entropy
from lexiseg.losses.shared_count import shared_count
from lexiseg.losses.structural_similarity import mask_ssim_loss


class MaskCriterion(nn.Module):
    """``focal_weight * focal + dice_weight * dice`` over all classes of the batch (Cascade-CLIP, eq. 3), or with other terms.

    Focal runs over every class, dice over those present in each image; both are divided by the number of pairs of
    image and present class, averaged over processes, at least one (released code; the paper gives no normalisation).

    Args:
        weights: See :class:`MaskLossWeights`.
    """

    def __init__(self, weights: MaskLossWeights | None = None) -> None:
        super().__init__()
        self.weights = weights or MaskLossWeights()

    def forward(
        self, logits: Tensor, labels: Tensor, stage_logits: Sequence[Tensor] = ()
    ) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            logits: ``(B, K, h, w)`` mask logits on the patch grid.
            labels: ``(B, H, W)`` int64 class indices below K, or ``label_codes(K).ignore``.
            stage_logits: The masks of a cascade's stages alone, each ``(B, K, h, w)``; read with a weight on them only.

        Returns:
            ``loss`` (weighted, differentiable), ``loss_focal`` and ``loss_dice`` (weighted, for logging); with a
            weight on it also ``loss_ssim``, a mean over pixels, classes and images, ``loss_cross_entropy``, a mean over
            labelled pixels, and ``loss_stages``.

        Raises:
            TrainingError: A label is neither a class nor the ignored code.
        """
        classes = logits.shape[1]
        ignore = label_codes(classes).ignore
        highest = int(labels.where(labels != ignore, -1).max())
        if highest >= classes:
            raise TrainingError(
                f"label {highest} reached a loss over {classes} classes; expected ids 0 to {classes - 1} or {ignore}. "
                "Check the data set's id map"
            )
        num_masks = shared_count(count_masks(labels, classes))
        loss = focal = dice = logits.new_zeros((), dtype=torch.float32)
        if self.weights.focal or self.weights.dice:
            loss, focal, dice = fused_mask_loss(logits, labels, num_masks, self.weights)
        losses = {
            "loss": loss,
            "loss_focal": focal * self.weights.focal,
            "loss_dice": dice * self.weights.dice,
        }
        if self.weights.ssim:
            ssim = mask_ssim_loss(logits, labels, ignored=self.weights.ignored) * self.weights.ssim
            losses |= {"loss": losses["loss"] + ssim, "loss_ssim": ssim}
        if self.weights.cross_entropy:
            entropy = pixel_cross_entropy(logits, labels) * self.weights.cross_entropy
            losses |= {"loss": losses["loss"] + entropy, "loss_cross_entropy": entropy}
        if self.weights.stages and stage_logits:
            alone = [fused_mask_loss(stage, labels, num_masks, self.weights)[0] for stage in stage_logits]
            stages = torch.stack(alone).mean() * self.weights.stages
            losses |= {"loss": losses["loss"] + stages, "loss_stages": stages}
        return losses
