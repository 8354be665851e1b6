"""Settings of methods by name: what each takes, what is of no use to it, and what cannot be."""

import re

import pytest

from lexiseg.dense.method_settings import (
    changed_views,
    has_use,
    method_arguments,
    require_use,
    shared_settings,
)
from lexiseg.dense.methods import build_method
from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView
from lexiseg.errors import ConfigError


def test_settings_become_arguments_of_their_part():
    given = {"strength": 1, "unit_features": False, "scales": [0.5, 1], "flip": "vertical", "threshold": 0.3}
    assert method_arguments("tg-clip", given) == {
        "strength": 1.0,
        "unit_features": False,
        "threshold": 0.3,
        "views": MultiView(scales=(0.5, 1.0), flip="vertical"),
    }
    assert method_arguments("sclip", {"scales": (0.5,)})["views"] == MultiView(scales=(0.5,), flip="none")
    assert method_arguments("naclip", {}) == {}


def test_arguments_build_the_method(tiny_clip):
    from lexiseg.clip.towers.vit import VisionTower

    given = {"temperature": 0.7, "after_upsampling": True, "fusion": "maximum", "outlier_share": 0.2}
    method = build_method("tg-clip", VisionTower(tiny_clip).eval(), **method_arguments("tg-clip", given))
    assert (method.model.temperature, method.model.reads_pixels) == (0.7, True)
    assert (method.views.fusion, method.model.encoder.outlier_share) == ("maximum", 0.2)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("tg-clip", {"strenght": 1}, "tg-clip has no setting 'strenght'; did you mean strength?"),
        ("trident", {"sam_refin": True}, "trident has no setting 'sam_refin'; did you mean sam_refine?"),
        ("naclip", {"zzz": 1}, "naclip has no setting 'zzz'; there are sigma, similarity, residual"),
        ("naclip", {"tower": 1}, "naclip has no setting 'tower'"),
        ("naclip", {"sigma": "wide"}, "naclip.sigma: expected a number, got 'wide'"),
        ("tg-clip", {"unit_features": 1}, "tg-clip.unit_features: expected true or false, got 1"),
        ("tg-clip", {"strength": -1.0}, "expected a strength of at least 0, got -1.0"),
        ("tg-clip", {"temperature": 0}, "expected a temperature above 0, got 0"),
        ("sclip", {"temperature": 1.0}, "sclip: temperature is of text-guided recalibration, which is off"),
        ("tg-clip", {"strength": 0.0, "unit_features": False}, "unit_features is of text-guided recal"),
        ("sclip", {"fusion": "maximum"}, "sclip: fusion says how mirror images join, and there are none"),
        (
            "tg-clip",
            {"uncertain_above": 0.4},
            "uncertain_above is for flip=uncertain, and flip is horizontal",
        ),
        ("sclip", {"scales": []}, "views.scales: expected at least one number, got none"),
        ("sclip", {"flip": "left"}, "views.flip: expected one of none, horizontal, vertical, uncertain"),
        (
            "trident",
            {"refine_threshold": 0.1},
            "trident: refine_threshold changes nothing without sam_refine;",
        ),
        (
            "trident",
            {"restore_failed": False, "sam_refine": False},
            "nothing without sam_refine; leave it out",
        ),
        (
            "corrclip",
            {"neighbours": 3},
            "corrclip: neighbours changes nothing without a bank; leave it out, or",
        ),
        ("corrclip", {"memory_share": 0.3, "bank": None}, "memory_share changes nothing without a bank"),
        ("corrclip", {"bank": "b", "merge_distance": 0.1}, "merge_distance changes nothing beside a bank"),
        ("sclip", {"random_seed": 3}, "random_seed changes nothing without random among projections"),
        ("sclip", {"projections": ["key", "random"], "learned": "x"}, "without learned among projections"),
        ("sclip", {"projections": 5, "random_count": 3}, "sclip.projections: expected a list of"),
        ("sklip", {}, "no training-free method 'sklip'; did you mean sclip?"),
    ],
)
def test_what_cannot_be(name, given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        method_arguments(name, given)


def test_who_has_use_for_what():
    assert has_use("sclip", "strength", {})
    assert not has_use("sclip", "temperature", {})
    assert has_use("sclip", "temperature", {"strength": 0.1})
    assert has_use("tg-clip", "unit_features", {})
    assert not has_use("tg-clip", "unit_features", {"strength": 0})
    assert has_use("sclip", "scales", {})
    assert not has_use("sclip", "fusion", {})
    assert has_use("sclip", "fusion", {"flip": "horizontal"})
    assert not has_use("tg-clip", "uncertain_above", {})
    assert has_use("sclip", "uncertain_above", {"flip": "uncertain"})
    assert has_use("trident", "halves", {})
    assert not has_use("sclip", "halves", {})
    assert has_use("tg-clip", "threshold", {}), "SC-CLIP's"
    assert has_use("trident", "refine_threshold", {"sam_refine": True})
    assert not has_use("trident", "refine_threshold", {})
    assert has_use("sclip", "random_count", {"projections": ["random"]})


def test_what_another_setting_switches_on_is_taken_with_it():
    given = {"sam_refine": True, "refine_threshold": 0.1, "restore_failed": False}
    assert method_arguments("trident", given) == given
    given = {"projections": ["random"], "random_count": 3, "random_seed": 1}
    assert method_arguments("sclip", given) == given


def test_settings_for_several_methods():
    given = {"scales": (1.0,), "temperature": 0.5, "tg-clip": {"strength": 0.3}, "sigma": 3.0}
    assert shared_settings("tg-clip", given) == {"scales": (1.0,), "temperature": 0.5, "strength": 0.3}
    assert shared_settings("naclip", given) == {"scales": (1.0,), "sigma": 3.0}
    require_use(("tg-clip", "naclip"), given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma": 1.0}, "none of sclip, tg-clip has use for the setting 'sigma'"),
        ({"tresholdd": 1.0}, "for the setting 'tresholdd'; did you mean threshold?"),
        ({"gem": {"iterations": 2}}, "gem.iterations: gem is not among the methods; name it, or drop"),
        ({"sclip": {"fusion": "maximum"}}, "sclip: fusion says how mirror images join"),
        ({"threshold": "x"}, "tg-clip.threshold: expected a number, got 'x'"),
    ],
)
def test_settings_that_no_method_takes(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        require_use(("sclip", "tg-clip"), given)


def test_views_of_a_trained_model():
    views = changed_views(SINGLE_VIEW, {"scales": [0.5, 1.0], "flip": "horizontal"}, "a trained model")
    assert views == MultiView(scales=(0.5, 1.0), flip="horizontal")
