"""The set criterion of models that find regions: each target is matched to one query, the others answer "nothing"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.errors import ConfigError, TrainingError
from lexiseg.losses.dense_masks import DenseMasks
from lexiseg.losses.point_sampled_masks import PointSampledMasks
from lexiseg.losses.shared_count import shared_count
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import SegmentPrediction, SegmentTargets

Compared = Literal["points", "pixels"]
"""Where masks are compared: on random ``points`` (Mask2Former) or on all ``pixels`` (MaskFormer)."""

Matching = list[tuple[Tensor, Tensor]]
"""Per image, ``(R,)`` int64 queries and the ``(R,)`` targets that they are matched to."""


@dataclass(frozen=True)
class SegmentLossSettings:
    """Weights and points of the set criterion; defaults are Mask2Former's, which SAN and FC-CLIP took over unchanged.

    The weights are those of the matching cost too.

    Attributes:
        classes: Weight of the cross-entropy over the classes and "nothing".
        mask: Weight of the loss per pixel.
        dice: Weight of the dice loss.
        nothing: Weight, in the cross-entropy, of a query that no target is matched to.
        compared: See :data:`Compared`; the loss per pixel is binary cross-entropy on points, focal on all pixels.
        points: Random points on which masks are compared, in the matching as in the loss.
        oversampling: Times as many points are drawn for the loss at first.
        uncertain: Share of the points that are the most uncertain of those; the others are drawn anew.
    """

    classes: float = within(2.0, at_least=0)
    mask: float = within(5.0, at_least=0)
    dice: float = within(5.0, at_least=0)
    nothing: float = within(0.1, at_least=0)
    compared: Compared = "points"
    points: int = within(12544, at_least=1)
    oversampling: float = within(3.0, at_least=1)
    uncertain: float = within(0.75, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        """Reject impossible settings; ``ConfigError`` names them."""
        require_plain_settings(self, "loss")
        if self.classes == self.mask == self.dice == 0:
            raise ConfigError("loss: classes, mask and dice all weigh 0; give at least one of them a weight")


MASKFORMER = SegmentLossSettings(classes=1.0, mask=20.0, dice=1.0, compared="pixels")
"""Weights of MaskFormer, ZegFormer and OVSeg."""


class MaskTerms(Protocol):
    """How masks are compared: by random points or pixel by pixel."""

    def match(self, prediction: SegmentPrediction, targets: Sequence[SegmentTargets]) -> Matching:
        """The assignment of least cost, each target to a query of its own; no gradient."""

    def losses(
        self, masks: Tensor, targets: Sequence[SegmentTargets], matching: Matching, num_masks: Tensor
    ) -> dict[str, Tensor]:
        """``loss_mask`` and ``loss_dice`` of matched masks ``(B, N, h, w)``, unweighted, sums divided by ``num_masks``."""


class SegmentCriterion(nn.Module):
    """Cross-entropy, mask and dice loss after a Hungarian matching, for every layer anew (DETR; MaskFormer, sec. 3.2).

    The cross-entropy runs over all queries, a weighted mean (divided by the sum of the weights); mask and dice losses over
    the matched ones, divided by the number of targets in the batch, averaged over processes, at least one.

    Args:
        settings: Weights and points.
        masks: How masks are compared; as the settings say, if not given.
    """

    def __init__(
        self, settings: SegmentLossSettings | None = None, *, masks: MaskTerms | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or SegmentLossSettings()
        self.masks: MaskTerms = masks or _mask_terms(self.settings)

    def forward(
        self, predictions: Sequence[SegmentPrediction], targets: Sequence[SegmentTargets]
    ) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            predictions: Of the layers that bear a loss, first to last. The last is matched first and then the others, each
                with random draws of its own from torch's generator.
            targets: One per image, all of one size; an image, and even the batch, may hold none: then every query is
                taught "nothing". One without a pixel is none.

        Returns:
            ``loss`` (weighted, differentiable), and for logging its terms, weighted: ``loss_ce``, ``loss_mask`` and
            ``loss_dice`` of the last prediction, with ``_0``, ``_1``, … those of the layers before it.

        Raises:
            TrainingError: More targets than queries, a class that the scores have no column for, or predictions that are
                not finite numbers.
        """
        last = predictions[-1]
        targets = [one.shown() for one in targets]
        for prediction in predictions:
            _require_comparable(prediction, targets)
        targets = [SegmentTargets(one.classes, one.masks.to(torch.float32)) for one in targets]
        count = last.class_logits.new_tensor(sum(map(len, targets)), dtype=torch.float32)
        num_masks = shared_count(count)
        terms = self._terms(last, targets, num_masks)
        for layer, prediction in enumerate(predictions[:-1]):
            earlier = self._terms(prediction, targets, num_masks)
            terms |= {f"{name}_{layer}": value for name, value in earlier.items()}
        total = torch.stack(list(terms.values())).sum()
        return {"loss": total} | {name: value.detach() for name, value in terms.items()}

    def _terms(
        self, prediction: SegmentPrediction, targets: Sequence[SegmentTargets], num_masks: Tensor
    ) -> dict[str, Tensor]:
        """Weighted terms of one layer, in float32 whatever the model computes in."""
        prediction = SegmentPrediction(prediction.class_logits.float(), prediction.masks.float())
        with torch.autocast(prediction.masks.device.type, enabled=False):
            matching = self.masks.match(prediction, targets)
            found = self.masks.losses(prediction.masks, targets, matching, num_masks)
            classes = class_loss(prediction.class_logits, targets, matching, self.settings.nothing)
        return {
            "loss_ce": self.settings.classes * classes,
            "loss_mask": self.settings.mask * found["loss_mask"],
            "loss_dice": self.settings.dice * found["loss_dice"],
        }


def _mask_terms(settings: SegmentLossSettings) -> MaskTerms:
    weights = (settings.classes, settings.mask, settings.dice)
    if settings.compared == "pixels":
        return DenseMasks(weights)
    return PointSampledMasks(
        weights,
        points=settings.points,
        oversampling=settings.oversampling,
        uncertain=settings.uncertain,
    )


def class_loss(
    logits: Tensor, targets: Sequence[SegmentTargets], matching: Matching, nothing: float
) -> Tensor:
    """Cross-entropy of every query against its target's class or "nothing", a weighted mean.

    Args:
        logits: ``(B, N, K + 1)``; the last column is "nothing".
        targets: One per image.
        matching: Which query has which target.
        nothing: Weight of queries without a target; the others weigh 1.
    """
    columns = logits.shape[-1]
    wanted = torch.full(logits.shape[:2], columns - 1, device=logits.device)
    for image, (one, (queries, chosen)) in enumerate(zip(targets, matching, strict=True)):
        wanted[image, queries.to(wanted.device)] = one.classes[chosen.to(one.classes.device)]
    weight = logits.new_ones(columns)
    weight[-1] = nothing
    return F.cross_entropy(logits.transpose(1, 2), wanted, weight)


def _require_comparable(prediction: SegmentPrediction, targets: Sequence[SegmentTargets]) -> None:
    queries, columns = prediction.class_logits.shape[1:]
    most = max(map(len, targets))
    if most > queries:
        raise TrainingError(
            f"an image holds {most} segments but the model only {queries} queries; train with at least {most} queries"
        )
    highest = max((int(one.classes.max()) for one in targets if len(one)), default=-1)
    if highest >= columns - 1:
        raise TrainingError(
            f"class {highest} reached a loss over {columns - 1} classes; expected ids 0 to {columns - 2}. Check the data "
            "set's id map"
        )
    if not (prediction.class_logits.isfinite().all() and prediction.masks.isfinite().all()):
        raise TrainingError(
            "masks or class scores are not finite numbers, so no target can be matched; lower optim.lr, or train in float32"
        )
