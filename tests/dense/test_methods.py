"""Training-free methods by name."""

import pytest

from lexiseg.clip.templates import resolve_templates
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense.methods import METHODS, build_method, published_templates
from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView
from lexiseg.dense.recalibration import Recalibrated
from lexiseg.dense.sc_clip import SCCLIP
from lexiseg.dense.sclip import SCLIP
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline


@pytest.fixture
def tower(tiny_clip) -> VisionTower:
    return VisionTower(tiny_clip).eval()


def test_tg_clip_is_sc_clip_with_both_parts(tower) -> None:
    method = build_method("tg-clip", tower)
    assert isinstance(method.model, Recalibrated)
    assert isinstance(method.model.encoder, SCCLIP)
    assert (method.model.strength, method.model.temperature) == (0.1, 2.0)
    assert method.views == MultiView(scales=(0.75, 1.25), flip="horizontal", fusion="mean")


def test_tg_clip_to_the_letter_of_its_text(tower) -> None:
    method = build_method("tg-clip-text", tower, threshold=0.5)
    assert isinstance(method.model, Recalibrated)
    assert isinstance(method.model.encoder, SCCLIP)
    assert (method.model.unit_features, method.model.reads_pixels) == (False, True)
    assert method.views == MultiView()
    assert method.told["recalibration"] == {
        "strength": 0.1, "temperature": 2.0, "unit_features": False, "after_upsampling": True,
    }  # fmt: skip
    assert (method.told["name"], method.told["encoder"]["threshold"]) == ("tg-clip-text", 0.5)
    assert build_method("sclip", tower).told["recalibration"] is None


def test_each_part_of_the_recalibration_alone(tower) -> None:
    for key, value in (("unit_features", False), ("after_upsampling", True), ("temperature", 0.7)):
        told = build_method("sclip", tower, strength=0.2, **{key: value}).told["recalibration"]
        assert told[key] == value
        with pytest.raises(ConfigError, match=f"sclip: {key} is of text-guided recalibration, which is off"):
            build_method("sclip", tower, **{key: value})


def test_others_are_bare_unless_asked(tower) -> None:
    bare = build_method("sclip", tower, projections=["key"])
    assert isinstance(bare.model, SCLIP)
    assert bare.model.projections == ("key",)
    assert bare.views == SINGLE_VIEW
    dressed = build_method("sclip", tower, strength=0.2, views=MultiView())
    assert isinstance(dressed.model, Recalibrated)
    assert dressed.views == MultiView()
    assert isinstance(build_method("tg-clip", tower, strength=0.0).model, SCCLIP)


def test_names(tower) -> None:
    assert METHODS[-2:] == ("tg-clip", "tg-clip-text")
    with pytest.raises(ConfigError, match=r"no training-free method 'tgclip'; did you mean tg-clip\?"):
        build_method("tgclip", tower)
    with pytest.raises(ConfigError, match=r"no training-free method 'xyz'; choose one of clip, .*"):
        build_method("xyz", tower)


def test_templates_as_published() -> None:
    assert published_templates("gem") == "gem"
    assert published_templates("clip-surgery") == "surgery85"
    assert resolve_templates(published_templates("groupvit")) == ("a photo of a {}.",)
    assert published_templates("tg-clip") == published_templates("sclip") == "imagenet80"
    assert published_templates("tg-clip-text") == "imagenet80"


def test_tg_clip_loads_with_its_views() -> None:
    loaded = Pipeline.load(clip="toy", method="tg-clip", device="cpu")
    assert loaded.protocol.views == MultiView()
    assert loaded.protocol.short_side == 72
    assert loaded.templates == resolve_templates("imagenet80")
