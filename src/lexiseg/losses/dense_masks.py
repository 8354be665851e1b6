"""MaskFormer's comparison of masks pixel by pixel (Cheng et al., 2021), as ZegFormer and OVSeg train."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.losses.functional import dice_loss, sigmoid_focal_loss
from lexiseg.types import SegmentPrediction, SegmentTargets


class DenseMasks:
    """Focal and dice loss over all pixels; the matching is transformers', which equals the release.

    Cost and loss see different sizes: targets come down to the masks by nearest neighbour for the cost, masks go up to the
    targets bilinearly for the loss.

    Args:
        weights: Of class, mask and dice cost in the matching.
    """

    def __init__(self, weights: tuple[float, float, float]) -> None:
        from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher

        classes, mask, dice = weights
        self._matcher: Any = MaskFormerHungarianMatcher(cost_class=classes, cost_mask=mask, cost_dice=dice)

    def match(
        self, prediction: SegmentPrediction, targets: Sequence[SegmentTargets]
    ) -> list[tuple[Tensor, Tensor]]:
        """The assignment of least cost; per image the queries, ascending, and the target of each.

        The cost of a query and a target is minus the softmax probability of the class ("nothing" is part of the soft-max),
        focal and dice loss, weighted.

        Args:
            prediction: Float32, finite.
            targets: One per image, masks in float32.
        """
        masks, classes = [one.masks for one in targets], [one.classes for one in targets]
        matching: list[tuple[Tensor, Tensor]] = self._matcher(
            prediction.masks, prediction.class_logits, masks, classes
        )
        return matching

    def losses(
        self,
        masks: Tensor,
        targets: Sequence[SegmentTargets],
        matching: Sequence[tuple[Tensor, Tensor]],
        num_masks: Tensor,
    ) -> dict[str, Tensor]:
        """``loss_mask`` (focal, mean over pixels) and ``loss_dice``, each summed over masks / ``num_masks``.

        Args:
            masks: ``(B, N, h, w)`` logits in float32.
            targets: One per image, masks in float32.
            matching: As :meth:`match` gives it.
            num_masks: Scalar.
        """
        size = targets[0].masks.shape[-2:]
        matched = torch.cat([own[queries] for own, (queries, _) in zip(masks, matching, strict=True)])
        wanted = torch.cat([one.masks[chosen] for one, (_, chosen) in zip(targets, matching, strict=True)])
        upsampled = F.interpolate(matched[:, None], size=size, mode="bilinear", align_corners=False)
        logits, wanted = upsampled.flatten(1), wanted.flatten(1)
        return {
            "loss_mask": sigmoid_focal_loss(logits, wanted) / num_masks,
            "loss_dice": dice_loss(logits, wanted) / num_masks,
        }
