"""Models by name, from configurations and from checkpoints."""

import pytest

import program_cases
from lexiseg.cli.composing import compose_config, plain
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import ConfigError
from lexiseg.models.cascade_clip import CascadeCLIP
from lexiseg.models.proposers.registry import PROPOSERS
from lexiseg.models.region_classifiers.registry import CLASSIFIERS
from lexiseg.models.region_parts import complete_part
from lexiseg.models.registry import MODELS, build_model, complete_settings, model_settings
from lexiseg.recipes.conf_files import choices
from lexiseg.types import MaskModel


@pytest.mark.parametrize("name", list(MODELS))
def test_the_configuration_of_a_preset_says_what_the_preset_says(name):
    configured = plain(compose_config("train", [f"model={name}"]).model)
    assert complete_settings(configured) == complete_settings({"name": name})
    assert configured.keys() == complete_settings({"name": name}).keys(), "every setting can be seen there"


@pytest.mark.parametrize(("group", "parts"), [("proposer", PROPOSERS), ("classifier", CLASSIFIERS)])
def test_the_configuration_of_a_part_says_what_the_part_says(group, parts):
    assert set(choices("train", f"model/{group}")) == set(parts)
    for name in parts:
        configured = plain(compose_config("train", ["model=two_stage", f"model/{group}={name}"]).model)[group]
        assert configured == complete_part(parts, {"name": name}, group)


@pytest.mark.parametrize("name", program_cases.CASCADES)
def test_presets_are_parts_of_one_network_and_keep_their_name(tiny_clip, name):
    small = {"name": name, "stages": [[3]], "prompt_length": 2, "decoder_layers": 1, "decoder_heads": 2}
    model = build_model(small, VisionTower(tiny_clip))
    assert type(model) is CascadeCLIP
    assert isinstance(model, MaskModel)
    assert model_settings(model)["name"] == name


def test_unknown_models_and_settings():
    with pytest.raises(ConfigError, match="expected one of cascade_clip, .*, got 'segformer'"):
        complete_settings({"name": "segformer"})
    with pytest.raises(ConfigError, match="model 'zegclip' has no setting stagse; it has aggregation, "):
        complete_settings({"name": "zegclip", "stagse": [[12]]})
