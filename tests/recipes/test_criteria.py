"""Which loss goes with which model."""

import pytest
import torch

import program_cases
from lexiseg.errors import ConfigError
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.losses.open_seg_criterion import OpenSegCriterion, OpenSegLossSettings
from lexiseg.losses.segment_criterion import SegmentLossSettings
from lexiseg.models.registry import build_model
from lexiseg.recipes.criteria import loss_settings, make_criterion


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
