import inspect
import json
import os
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from lexiseg.cli.composing import plain
from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets.catalogue import CATALOGUE
from lexiseg.data.splits import make_split
from lexiseg.data.toy.world import TOY_CLASSES, TOY_UNSEEN
from lexiseg.recipes.records import open_training_data

CONF = Path(__file__).parents[2] / "conf"
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
CLASSES = {
    "voc_15_5": "voc",
    "context_49_10": "context",
    "context_49_10_cascade": "context",
    "coco_stuff_156_15": "coco_stuff",
    "camvid": "camvid",
}
SHARES = {
    "voc_15_5": (15, 5),
    "context_49_10": (49, 10),
    "context_49_10_cascade": (49, 10),
    "coco_stuff_156_15": (156, 15),
    "camvid": (8, 3),
}
IDS = {
    "voc_15_5": [15, 16, 17, 18, 19],
    "context_49_10": [0, 6, 7, 14, 19, 24, 31, 33, 48, 54],
    "context_49_10_cascade": [0, 2, 3, 7, 9, 13, 17, 19, 31, 37],
    "coco_stuff_156_15": [19, 23, 28, 29, 36, 51, 76, 88, 94, 112, 133, 136, 137, 157, 160],
    "camvid": [4, 5, 8],
}


PUBLISHED_SPLITS = {
    "voc": "voc_15_5",
    "context": "context_49_10",
    "coco_stuff": "coco_stuff_156_15",
    "camvid": "camvid",
    "toy": "toy",
}
"""Data sets whose unseen classes somebody published; of others the last class is taken."""


def load(group, name):
    return OmegaConf.load(CONF / group / f"{name}.yaml")


def build(name, **overrides):
    """As training builds it: data sets first, then the split of their classes."""
    config = OmegaConf.create({"data": load("data", name)})
    for key, value in overrides.items():
        OmegaConf.update(config, f"data.{key}", value)
    return open_training_data(plain(config.data))


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_published_splits(name):
    settings = OmegaConf.to_container(load("split", name))
    assert set(settings) == {"name", "unseen", "setting", "unseen_pixels"}
    split = make_split([words[0] for words in builtin_classes(CLASSES[name])], **settings)
    assert split.name == name
    assert (len(split.seen), len(split.unseen)) == SHARES[name]
    assert list(split.unseen_ids) == IDS[name]
    assert (split.setting, split.unseen_pixels) == ("inductive", "shown")


def test_toy_split_names_what_the_toy_world_exports():
    split = make_split(TOY_CLASSES, **OmegaConf.to_container(load("split", "toy")))
    assert split.unseen == TOY_UNSEEN


def test_custom_split_waits_for_names():
    assert load("split", "custom").unseen == []


@pytest.mark.parametrize("group", ["data", "split"])
def test_every_file_starts_with_a_comment(group):
    for path in (CONF / group).glob("*.yaml"):
        assert path.read_text().startswith("# "), path.name


@pytest.mark.parametrize("name", DATA)
def test_keys_are_constructor_arguments(name):
    def check(node):
        if "_target_" in node:
            accepted = set(inspect.signature(get_object(node["_target_"])).parameters)
            assert set(node) - {"_target_"} <= accepted
        for child in node.values():
            if isinstance(child, dict):
                check(child)

    check(OmegaConf.to_container(load("data", name)))


@pytest.mark.parametrize("name", [*CATALOGUE, "folder", "toy"])
def test_every_data_set_gives_a_batch(trees, name):
    if name != "toy":
        trees.of(name)
    small = {
        "train_transform.base": [64, 32],
        "train_transform.crop": [16, 24],
        "num_workers": 0,
        "batch_size": 2,
    }
    data = build(name, **small, **({} if name == "toy" else {"root": str(trees.root)}))
    settings = OmegaConf.to_container(load("split", PUBLISHED_SPLITS.get(name, "custom")))
    if name not in PUBLISHED_SPLITS:
        settings["unseen"] = [data.train.classes[-1]]
    module = data.module(make_split(data.train.classes, **settings), seed=0)
    batch = next(iter(module.train_dataloader()))
    assert batch.images.shape == (2, 3, 16, 24)
    assert not set(batch.labels.unique().tolist()) & set(module.split.unseen_ids)
    assert len(next(iter(module.val_dataloader()))) >= 1


def test_sizes_of_the_published_recipe():
    for name in ("voc", "context", "coco_stuff", "coco_object", "ade20k"):
        recipe = load("data", name).train_transform
        assert (recipe.base, recipe.crop, recipe.cat_max_ratio) == ([2048, 512], [512, 512], 0.75)


def test_root_follows_the_environment(monkeypatch):
    monkeypatch.setenv("LEXISEG_DATA", "/store")
    assert load("data", "voc").train.root == "/store/VOCdevkit/VOC2012"


reference_classes = pytest.mark.skipif(
    "LEXISEG_CLASSES" not in os.environ, reason="LEXISEG_CLASSES names no file"
)


@reference_classes
def test_benchmark_words_equal_the_reference():
    published = json.loads(Path(os.environ["LEXISEG_CLASSES"]).read_text())
    shipped = {"coco_stuff": "coco_stuff171", "ade20k": "ade20k150", "cityscapes": "cityscapes19"}
    lists = {key: groups for key, groups in published.items() if isinstance(groups, list)}
    assert len(lists) >= 12
    for key, groups in lists.items():
        assert [list(group) for group in builtin_classes(shipped.get(key, key))] == groups, key


@reference_classes
def test_class_lists_equal_the_reference():
    splits = json.loads(Path(os.environ["LEXISEG_CLASSES"]).read_text())["splits"]
    for split, name in (
        ("voc_15_5", "voc"),
        ("context_49_10_convention", "context"),
        ("coco_stuff_156_15", "coco_stuff"),
    ):
        assert splits[split]["classes"] == [words[0] for words in builtin_classes(name)]
