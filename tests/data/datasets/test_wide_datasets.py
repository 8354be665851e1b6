import numpy as np
import pytest
from PIL import Image

from lexiseg.data.datasets.ade20k_full import ADE20KFull
from lexiseg.data.datasets.catalogue import CATALOGUE, open_dataset
from lexiseg.data.datasets.context459 import PascalContext459
from lexiseg.data.splits import make_split
from lexiseg.errors import DataError


def test_ade20k_full_reads_sixteen_bits_and_the_list_beside(trees):
    dataset = ADE20KFull(root=trees.ade20k_full(), partition="val")
    assert [pair.name for pair in dataset.pairs] == ["ADE_validation_1"]
    assert dataset[0].label[0, :848].tolist() == [*range(847), 65535]
    assert (dataset.classes[0], dataset.classes[846]) == ("thing 0, item 0", "thing 846, item 846")


def test_ade20k_full_may_share_a_synonym_but_no_name(trees):
    lines = [f"{3000 - i}: thing {i}; kitchen range" for i in range(847)]
    trees.ade20k_full()
    trees.text("classes.txt", *lines)
    assert ADE20KFull(root=trees.root).words[846] == ("thing 846", "kitchen range")
    trees.text("classes.txt", *lines[:-1], "7: thing 3; other")
    with pytest.raises(DataError, match=r"classes\.txt: 'thing 3' is the name of two classes"):
        ADE20KFull(root=trees.root)
    trees.text("classes.txt", *lines[:-1])
    with pytest.raises(DataError, match=r"classes\.txt lists 846 classes; ADE20K-847 has 847"):
        ADE20KFull(root=trees.root)


def test_context459_reads_its_numbered_list(trees):
    dataset = PascalContext459(root=trees.context459(), partition="val")
    assert dataset[0].label[0, :460].tolist() == [*range(459), 65535]
    assert (dataset.classes[0], dataset.classes[458]) == ("word 0", "word 458")
    trees.text("labels.txt", "2: word 0", "1: word 1", *(f"{i + 1}: word {i}" for i in range(2, 459)))
    with pytest.raises(DataError, match="numbers before the names are not 1 to 459"):
        PascalContext459(root=trees.root)


def test_context459_without_label_maps_or_photographs(trees):
    (trees.context459() / "JPEGImages/x.jpg").unlink()
    with pytest.raises(DataError, match=r"1 files missing: JPEGImages/x\.jpg"):
        PascalContext459(root=trees.root, partition="val")
    (trees.root / "annotations_detectron2/pc459_val/x.tif").unlink()
    with pytest.raises(
        DataError, match=r"no \.tif in annotations_detectron2/pc459_val(.|\n)*prepare context459"
    ):
        PascalContext459(root=trees.root, partition="val")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("ade20k_full", "images_detectron2/training"), ("context459", "annotations_detectron2/pc459_train")],
)
def test_training_images_are_needed_only_where_they_lie(trees, name, folder):
    root = trees.of(name)
    assert CATALOGUE[name].required_partitions(root) == ("train", "val")
    (root / folder).rename(root / "elsewhere")
    assert CATALOGUE[name].required_partitions(root) == ("val",)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("ade20k", 150), ("ade20k_full", 847), ("context", 59), ("context459", 459), ("coco_panoptic", 3)],
)
def test_every_class_counts_as_seen_under_split_all(trees, name, classes):
    dataset = open_dataset(name, trees.of(name), "val")
    split = make_split(dataset.classes, name="all", unseen=[], setting="supervised")
    assert len(split.training_ids) == classes


def test_a_label_map_of_eight_bits_has_class_255_too(trees):
    root = trees.ade20k_full()
    path = root / "annotations_detectron2/validation/ADE_validation_1.tif"
    Image.fromarray(np.full((7, 853), 255, np.uint8)).save(path)
    assert (ADE20KFull(root=root, partition="val")[0].label == 255).all(), (
        "255 is a class here, whatever the file's bits"
    )
