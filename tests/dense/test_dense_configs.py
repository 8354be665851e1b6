"""Configurations of dense encoders and views name what the constructors take, with the same defaults."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import DENSE_ENCODERS, DenseEncoder
from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("name", DENSE_ENCODERS)
def test_dense_config_mirrors_constructor(name: str, tiny_clip) -> None:
    config = OmegaConf.load(CONF / "dense" / f"{name}.yaml")
    kind = get_class(config._target_)
    assert kind is DENSE_ENCODERS[name]
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(kind).parameters.items()
        if key != "tower"
    }
    assert list(config)[1:] == list(defaults)
    for key, default in defaults.items():
        given = OmegaConf.to_container(config)[key]
        if isinstance(default, float):
            assert given == pytest.approx(default, abs=1e-4)
        elif isinstance(default, tuple):
            assert tuple(given) == default or given == pytest.approx(list(default), abs=1e-4)
        else:
            assert given == default
    if name != "proxyclip":  # its default model comes from the hub
        assert isinstance(instantiate(config, tower=VisionTower(tiny_clip)), DenseEncoder)


def test_no_config_without_an_encoder() -> None:
    assert {path.stem for path in (CONF / "dense").glob("*.yaml")} == set(DENSE_ENCODERS)


@pytest.mark.parametrize(("name", "expected"), [("mcr", MultiView()), ("single", SINGLE_VIEW)])
def test_view_configs(name: str, expected: MultiView) -> None:
    assert instantiate(OmegaConf.load(CONF / "views" / f"{name}.yaml")) == expected
