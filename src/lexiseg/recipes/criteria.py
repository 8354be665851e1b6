"""Which loss a run trains with: by the name that configurations give it, and whether a model can be trained with it."""

from collections.abc import Mapping

from lexiseg.errors import ConfigError
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.losses.open_seg_criterion import OpenSegCriterion, OpenSegLossSettings
from lexiseg.losses.segment_criterion import SegmentCriterion, SegmentLossSettings
from lexiseg.models.region_model import RegionModel
from lexiseg.recipes.settings import known_settings
from lexiseg.types import MaskModel

LossSettings = MaskLossWeights | SegmentLossSettings | OpenSegLossSettings
Criterion = MaskCriterion | SegmentCriterion | OpenSegCriterion

LOSSES: dict[str, type[LossSettings]] = {
    "mask": MaskLossWeights,
    "segments": SegmentLossSettings,
    "open_seg": OpenSegLossSettings,
}
"""By ``loss.kind``; a model takes one of them."""


def loss_settings(values: object) -> LossSettings:
    """The loss that a record describes; ``kind`` says which, ``mask`` where it is missing.

    Raises:
        ConfigError: No such loss, a key that it does not have, or a bad value.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"loss: expected settings by name, got {values!r}")
    kind, own = values.get("kind", "mask"), {key: value for key, value in values.items() if key != "kind"}
    if not isinstance(kind, str) or kind not in LOSSES:
        raise ConfigError(f"loss.kind: expected one of {', '.join(LOSSES)}, got {kind!r}")
    return known_settings(LOSSES[kind], own, "loss")


def make_criterion(model: MaskModel, loss: LossSettings | None = None) -> Criterion:
    """The criterion of a loss.

    Args:
        model: What is to be trained.
        loss: None for the model's own.

    Raises:
        ConfigError: A loss of masks for a model that names regions, the other way round, or another family's.
    """
    regions = isinstance(model, RegionModel)
    own: LossSettings = model.own_loss if isinstance(model, RegionModel) else MaskLossWeights()
    loss = own if loss is None else loss
    if type(loss) is not type(own):
        fitting = next(name for name, kind in LOSSES.items() if type(own) is kind)
        raise ConfigError(
            f"model '{model.settings.name}' {'names regions' if regions else 'gives a mask per class'}, which this loss cannot "
            f"compare; take loss={fitting}"
        )
    if isinstance(loss, OpenSegLossSettings):
        return OpenSegCriterion(loss, temperature=model.settings.temperature)
    return SegmentCriterion(loss) if isinstance(loss, SegmentLossSettings) else MaskCriterion(loss)
