"""What every registered mask provider promises; those with a model on tiny random weights."""

import json
import pickle

import numpy as np
import pytest
from transformers import ViTConfig, ViTModel

from lexiseg.cli.parsers.masks import COMMAND
from lexiseg.recipes.mask_providers import PROVIDERS, make_provider
from lexiseg.recipes.masks import count_workers
from mask_cases import photograph
from tiny_panoptic import TinyPanoptic
from tiny_sams import tiny_sam
from trained_regions import TrainedRegions

SETTINGS = {
    "sam": {"points_per_side": 2, "min_quality": 0.0, "min_stability": 0.0},
    "normalized_cut": {"side": 40},
}
"""What random weights need to find something, or to find it soon."""


def tiny_dino():
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTModel(ViTConfig(**size, image_size=32, patch_size=8))


WEIGHTS = {
    "dino": tiny_dino,
    "normalized_cut": tiny_dino,
    "sam": tiny_sam,
    "panoptic": TinyPanoptic,
    "regions": TrainedRegions,
}


@pytest.fixture(params=PROVIDERS)
def provider(request, tmp_path):
    name = request.param
    if PROVIDERS[name].model is None:
        return make_provider(name, {})
    if name not in WEIGHTS:
        pytest.skip(f"{name} has no tiny weights; give it some in WEIGHTS")
    WEIGHTS[name]().save_pretrained(tmp_path / name)
    return make_provider(name, SETTINGS.get(name, {}), model=str(tmp_path / name), device="cpu")


@pytest.mark.one_in(3)
def test_the_same_photograph_gives_the_same_masks_at_its_own_size(provider):
    image = np.array(photograph(47, 61))
    before = image.copy()
    first, again = provider(image), provider(image)
    assert first.size == (47, 61)
    assert len(first) >= 1
    assert (first.arrays() == again.arrays()).all()
    assert (image == before).all()


def test_its_name_is_the_tables_and_its_settings_are_plain(provider):
    assert PROVIDERS[provider.name].told
    settings = dict(provider.settings)
    told = json.loads(json.dumps(settings))
    assert told.keys() == settings.keys()
    assert all(told[key] == (list(v) if isinstance(v, tuple) else v) for key, v in settings.items())


def test_one_without_a_model_works_in_several_processes(provider):
    if PROVIDERS[provider.name].model is None:
        other = pickle.loads(pickle.dumps(provider))
        assert np.array_equal(other(photograph()).arrays(), provider(photograph()).arrays())
        assert count_workers(provider.name, 3) == 3
    else:
        assert count_workers(provider.name, None) == 1


def test_the_help_tells_every_provider():
    build = COMMAND.commands[0]
    assert all(
        name in build.description and entry.told in build.description for name, entry in PROVIDERS.items()
    )
