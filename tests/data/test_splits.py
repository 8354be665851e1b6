import numpy as np
import pytest
import yaml

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.splits import FOLDS, fold_classes, make_split, seen_label_map
from lexiseg.errors import ConfigError
from lexiseg.recipes.conf_files import conf_dir

CLASSES = ("sky", "road", "car", "tree")


def test_seen_label_map_hides_unseen_and_keeps_full_ids():
    table = seen_label_map(make_split(CLASSES, name="s", unseen=["road", "tree"]))
    assert table.dtype == np.uint8
    assert table[:5].tolist() == [0, 255, 2, 255, 255]
    assert set(table[4:].tolist()) == {255}


def test_transductive_hides_too_and_supervised_does_not():
    hidden = seen_label_map(make_split(CLASSES, name="s", unseen=["car"], setting="transductive"))
    assert hidden[:5].tolist() == [0, 1, 254, 3, 255]
    shown = seen_label_map(make_split(CLASSES, name="s", unseen=["car"], setting="supervised"))
    assert shown[:5].tolist() == [0, 1, 2, 3, 255]


def test_split_carries_its_settings():
    split = make_split(
        CLASSES, name="s", unseen=["car"], unseen_pixels="excluded", seen=["sky", "road", "tree"]
    )
    assert (split.name, split.setting, split.unseen_pixels) == ("s", "inductive", "excluded")
    assert split.unseen_ids == (2,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unseen": ["cars"]}, "unseen class 'cars' is no class of this data set; did you mean 'car'"),
        ({"unseen": ["zebra"]}, "it has: sky, road, car, tree. Take this data set's own split"),
        ({"unseen": ["zebra"]}, r"split=custom split.unseen='\[…\]'\), or none \(split=all\)"),
        ({"unseen": "car"}, r"unseen is the text 'car'; expected a list: \[car\]"),
        ({"unseen": [2]}, "unseen class 2 is no text"),
        ({"unseen": ["car", "car"]}, "unseen class named twice: car"),
        ({"unseen": ["car", " "]}, "unseen class name is empty"),
        (
            {"unseen": ["car"], "setting": "supervised", "unseen_pixels": "excluded"},
            "setting=supervised needs the images that unseen_pixels=excluded leaves out",
        ),
        (
            {"unseen": ["car"], "seen": ["sky", "road", "car", "tree"]},
            "'car' stands both as seen and as unseen",
        ),
        ({"unseen": ["car"], "seen": ["sky", "road"]}, "'tree' is neither seen nor unseen"),
        ({"unseen": []}, r"names no unseen class; list some \(split.unseen="),
        ({"unseen": ["car"], "setting": "zero-shot"}, "setting is 'zero-shot'; expected one of inductive"),
        (
            {"unseen": ["car"], "unseen_pixels": "no"},
            "unseen_pixels is 'no'; expected one of shown, excluded",
        ),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_split(CLASSES, name="s", **settings)


def test_folds_by_hand():
    classes = [str(number) for number in range(8)]
    assert fold_classes(classes, 1, interleaved=False) == ("2", "3")
    assert fold_classes(classes, 1, interleaved=True) == ("1", "5")


@pytest.mark.parametrize("fold", range(FOLDS))
def test_the_files_of_the_folds(fold):
    voc = [names[0] for names in builtin_classes("voc")]
    things = [names[0] for names in builtin_classes("coco_stuff")[:80]]
    for name, classes, interleaved in (("pascal_5i", voc, False), ("coco_20i", things, True)):
        told = yaml.safe_load((conf_dir() / "split" / f"{name}_{fold}.yaml").read_text())
        assert told["name"] == f"{name}_{fold}"
        assert tuple(told["unseen"]) == fold_classes(classes, fold, interleaved=interleaved)
        assert len(make_split(classes, **told).unseen) == len(classes) // FOLDS
