"""Mask2Former's comparison of masks on random points (Cheng et al., 2022, sec. 3.3), as SAN and FC-CLIP train."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lexiseg.types import SegmentPrediction, SegmentTargets


class PointSampledMasks:
    """Matching and mask losses on a few thousand points instead of all pixels; transformers' own, which equal the release.

    Points are drawn by ``torch.rand`` on the device of the masks, in this order: one set per image for the matching, the
    same for all its queries and targets; then for all matched masks of the batch together the candidates of the loss, and
    last those points that are not chosen for their uncertainty. Masks are read bilinearly at the points.

    Args:
        weights: Of class, mask and dice cost in the matching.
        points: P, points of the matching and of the loss.
        oversampling: Candidates of the loss per point.
        uncertain: Share of the P points that are those candidates whose logits lie nearest to 0.
    """

    def __init__(
        self,
        weights: tuple[float, float, float],
        *,
        points: int = 12544,
        oversampling: float = 3.0,
        uncertain: float = 0.75,
    ) -> None:
        from transformers import Mask2FormerConfig
        from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

        classes, mask, dice = weights
        config = Mask2FormerConfig(
            class_weight=classes,
            mask_weight=mask,
            dice_weight=dice,
            train_num_points=points,
            oversample_ratio=oversampling,
            importance_sample_ratio=uncertain,
        )
        self._loss: Any = Mask2FormerLoss(config, {})

    def match(
        self, prediction: SegmentPrediction, targets: Sequence[SegmentTargets]
    ) -> list[tuple[Tensor, Tensor]]:
        """The assignment of least cost; per image the queries, ascending, and the target of each.

        The cost of a query and a target is minus the softmax probability of the class, binary cross-entropy and dice on
        the points, weighted.

        Args:
            prediction: Float32, finite.
            targets: One per image, masks in float32.
        """
        masks, classes = [one.masks for one in targets], [one.classes for one in targets]
        matching: list[tuple[Tensor, Tensor]] = self._loss.matcher(
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
        """``loss_mask`` (binary cross-entropy, mean over points) and ``loss_dice``, each summed over masks / ``num_masks``.

        Args:
            masks: ``(B, N, h, w)`` logits in float32.
            targets: One per image, masks in float32.
            matching: As :meth:`match` gives it.
            num_masks: Scalar.
        """
        found: dict[str, Tensor] = self._loss.loss_masks(
            masks, [one.masks for one in targets], matching, num_masks
        )
        return found
