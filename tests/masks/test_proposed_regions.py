"""Regions of a model as masks: which of them are kept, and at the photograph's own size."""

import numpy as np
import pytest
import torch

from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.masks.proposed_regions import ProposedRegions, ProposedRegionsSettings
from lexiseg.recipes.mask_providers import make_provider
from lexiseg.recipes.proposed_regions import FindRegions
from mask_cases import photograph
from trained_regions import TrainedRegions


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    TrainedRegions().save_pretrained(folder)
    return folder / "last.ckpt"


def find(image, threshold):
    masks = np.zeros((4, *image.shape[:2]), dtype=bool)
    masks[0, :3], masks[1, :, 5:], masks[3, 2, 2] = True, True, threshold < 0.5
    return masks, [0.25, 0.75, 1.0, 0.5]


def test_the_most_confident_first_and_none_without_a_pixel():
    found = ProposedRegions(find, source={"model": "x"})(photograph(7, 11))
    assert found.scores.tolist() == [0.75, 0.25]
    assert found.arrays()[0][:, 5:].all()
    assert found.dropped == 2
    settings = ProposedRegionsSettings(threshold=0.2, min_confidence=0.5)
    some = ProposedRegions(find, source={"model": "x"}, settings=settings)
    assert some(photograph(7, 11)).scores.tolist() == [0.75, 0.5]
    assert some.settings == {"model": "x", "threshold": 0.2, "min_confidence": 0.5}


def test_masks_of_a_model_are_those_that_it_draws(trained):
    """A region's mask is where its own logits, brought to the photograph's size as labels are, pass the threshold."""
    pipeline = Pipeline.load(trained, device="cpu")
    image = photograph(47, 61)
    masks, confidence = FindRegions(pipeline)(image, 0.5)
    model = pipeline.model
    pixels = model.normalize(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float())
    padded = torch.nn.functional.pad(pixels, (0, 3, 0, 17))
    with torch.no_grad():
        logits = model.encode(padded).proposals.masks
    shown = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)
    expected = (shown[0, :, :47, :61] > 0).numpy()
    assert masks.shape == expected.shape
    assert (masks == expected).mean() > 0.999
    assert confidence == [1.0] * len(masks), "OpenSeg knows no nothing"


def test_mistakes(tmp_path):
    with pytest.raises(ConfigError, match="--model names no checkpoint"):
        make_provider("regions", {})
    with pytest.raises(ConfigError, match="regions.threshold: expected"):
        make_provider("regions", {"threshold": 1.0})
