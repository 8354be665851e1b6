"""Which loss goes with which model."""

from functools import partial

import pytest
import torch

import pair_cases
import program_cases
import region_model_cases
from lexiseg.errors import ConfigError
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.losses.open_seg_criterion import OpenSegCriterion, OpenSegLossSettings
from lexiseg.losses.segment_criterion import SegmentLossSettings
from lexiseg.models.registry import build_model
from lexiseg.recipes.criteria import loss_settings, make_criterion
from lexiseg.types import SegmentTargets


class Tower(torch.nn.Module):
    embed_dim = 13


def small(name, settings):
    return build_model({"name": name, **settings}, Tower())


def test_kinds_of_losses():
    assert loss_settings({"dice": 3}) == MaskLossWeights(dice=3)
    assert loss_settings({"kind": "segments", "points": 7}) == SegmentLossSettings(points=7)
    assert loss_settings({"kind": "open_seg", "masks": 1}) == OpenSegLossSettings(masks=1)
    with pytest.raises(ConfigError, match="loss.kind: expected one of mask, segments, open_seg, got 'boxes'"):
        loss_settings({"kind": "boxes"})
    with pytest.raises(ConfigError, match="loss: no setting points"):
        loss_settings({"points": 7})


def test_a_model_takes_its_own_and_no_other_family():
    pixels = small("lseg", program_cases.SMALL_LSEG)
    regions = small("open_seg", program_cases.SMALL_OPEN_SEG | {"temperature": 0.25})
    assert make_criterion(pixels).weights == MaskLossWeights()
    assert type(make_criterion(pixels, MaskLossWeights(cross_entropy=1))) is MaskCriterion
    own = make_criterion(regions, OpenSegLossSettings(masks=7))
    assert type(own) is OpenSegCriterion
    assert (own.settings.masks, own.temperature) == (7, 0.25)
    assert make_criterion(regions).settings == OpenSegLossSettings()
    with pytest.raises(ConfigError, match="'lseg' gives a mask per class, .* take loss=mask"):
        make_criterion(pixels, OpenSegLossSettings())
    for other in (MaskLossWeights(), SegmentLossSettings()):
        with pytest.raises(ConfigError, match="'open_seg' names regions, .* take loss=open_seg"):
            make_criterion(regions, other)


def masks_of(*classes, empty=()):
    """Targets of a photograph, ascending: a stripe of its own for each class, and no pixel for those that are ``empty``."""
    every = sorted((*classes, *empty))
    masks = torch.zeros(len(every), 64, 96, dtype=torch.bool)
    for index, each in enumerate(every):
        if each in classes:
            masks[index, 11 * each : 11 * each + 7, 5 * each :] = True
    return SegmentTargets(torch.tensor(every, dtype=torch.int64), masks)


@pytest.mark.parametrize(
    "build",
    [
        *(partial(pair_cases.published, name) for name in pair_cases.PUBLISHED),
        partial(pair_cases.pair, "side_adapter", "masked_crops"),
    ],
    ids=lambda build: "-".join(build.args),
)
def test_a_class_of_which_a_crop_left_nothing_is_as_if_it_were_not_there(build):
    model = build().train()
    output = model(
        region_model_cases.photographs(model, 3), region_model_cases.spoken(model.tower.embed_dim).text
    )
    criterion = make_criterion(model)

    def loss(*targets):
        torch.manual_seed(7)
        return criterion(output.predictions, targets)["loss"]

    left = loss(masks_of(1, 4), masks_of(2), masks_of())
    assert torch.equal(
        loss(masks_of(1, 4, empty=(0, 3)), masks_of(2, empty=(3,)), masks_of(empty=(2,))), left
    )
    assert not torch.equal(loss(masks_of(1, 3, 4), masks_of(2), masks_of()), left)
    assert left.isfinite()
    nothing = loss(*(masks_of(empty=(each,)) for each in range(3)))
    assert nothing.isfinite()
    assert torch.equal(nothing, loss(masks_of(), masks_of(), masks_of()))
    nothing.backward()
