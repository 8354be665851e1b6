"""Numbers of papers: where they stand, and beside which towers."""

import importlib.resources
from types import SimpleNamespace

import pytest
import yaml

from lexiseg.clip.loading import load_clip
from lexiseg.dense.methods import METHODS
from lexiseg.evaluation.published import is_published_tower, published_miou
from lexiseg.recipes.conf_files import benchmark_names

B16 = {
    "own_reading": None, "has_blocks": True, "has_class_token": True, "aligned_patches": False, "takes_prompts": True,
    "patch_size": 16, "image_size": 224, "embed_dim": 512, "depth": 12, "width": 768, "num_heads": 12,
}  # fmt: skip


def tower(**changes):
    return SimpleNamespace(**(B16 | changes))


def test_known_numbers():
    """TG-CLIP's table 1 and the baseline of its table 3; a method's own paper before a later comparison."""
    assert published_miou("tg-clip", "voc21", tower()).miou == pytest.approx(0.666)
    assert published_miou("sc-clip", "cityscapes", tower()).miou == pytest.approx(0.410)
    assert published_miou("sclip", "voc21", tower()).miou == pytest.approx(0.591)
    assert published_miou("proxyclip", "voc20", tower()).miou == pytest.approx(0.768)
    assert published_miou("maskclip", "context59", tower()).miou == pytest.approx(0.217)
    assert published_miou("maskclip", "ade20k", tower()).miou == pytest.approx(0.123)
    assert "table 1" in published_miou("tg-clip", "voc21", tower()).source


def test_groupvit_has_numbers_on_a_groupvit_alone():
    """TG-CLIP's table 1: its average is 30.7."""
    own = SimpleNamespace(own_reading="groupvit")
    names = ("voc21", "voc20", "context60", "context59", "coco_object", "coco_stuff", "ade20k", "cityscapes")
    found = [published_miou("groupvit", name, own).miou for name in names]
    assert sum(found) / len(found) == pytest.approx(0.307, abs=5e-4)
    assert published_miou("groupvit", "voc21", tower()) is None
    assert published_miou("clip", "voc21", own) is None


def test_nothing_for_others():
    assert published_miou("tg-clip", "toy", tower()) is None
    assert published_miou("tg-clip", "camvid", tower()) is None
    assert published_miou("pixelclip", "voc20", tower()) is None
    assert published_miou("resclip", "voc21", tower()) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"patch_size": 32}, {"patch_size": 14, "width": 1024, "depth": 24, "num_heads": 16, "embed_dim": 768},
        {"image_size": 336}, {"embed_dim": 768}, {"has_class_token": False}, {"aligned_patches": True},
        {"takes_prompts": False},
    ],
)  # fmt: skip
def test_nothing_on_another_tower(changes):
    assert published_miou("tg-clip", "voc21", tower(**changes)) is None


def test_the_toy_clip_is_another_tower():
    assert not is_published_tower(load_clip("toy").tower)
    assert is_published_tower(tower())


def test_the_file_holds_known_names_and_means_that_papers_print():
    place = importlib.resources.files("lexiseg") / "assets" / "published" / "training_free.yaml"
    told = yaml.safe_load(place.read_text(encoding="utf-8"))
    means = {}
    for row in told["rows"]:
        assert row["method"] in METHODS
        assert row["source"] in told["sources"]
        assert set(row["miou"]) <= set(benchmark_names())
        means[row["method"], row["source"]] = sum(row["miou"].values()) / len(row["miou"])
    assert {source for _, source in means} == set(told["sources"])
    # Of each table with all eight columns, as printed there; TG-CLIP's prints 39.3 for GEM and 37.2 for CLIP Surgery.
    printed = {
        ("tg-clip", "tg_clip"): 45.5, ("sc-clip", "tg_clip_baseline"): 43.9, ("clip", "tg_clip"): 14.4,
        ("maskclip", "tg_clip"): 30.3, ("sclip", "tg_clip"): 39.1, ("clearclip", "tg_clip"): 39.2, ("gem", "tg_clip"): 39.3,
        ("naclip", "tg_clip"): 39.4, ("proxyclip", "tg_clip"): 40.1, ("clip-surgery", "tg_clip"): 37.2,
        ("corrclip", "corrclip"): 51.0, ("sclip", "sclip"): 38.2, ("clearclip", "clearclip"): 38.1,
    }  # fmt: skip
    for key, value in printed.items():
        assert means[key] == pytest.approx(value, abs=0.06), key
