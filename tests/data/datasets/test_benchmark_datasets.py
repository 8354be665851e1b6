import pytest

from lexiseg.data.datasets.ade20k import ADE20K
from lexiseg.data.datasets.catalogue import CATALOGUE, open_dataset
from lexiseg.data.datasets.cityscapes import Cityscapes
from lexiseg.data.datasets.coco_object import CocoObject
from lexiseg.errors import DataError


def test_ade20k_reduces_the_zero_label(trees):
    dataset = ADE20K(root=trees.ade20k(), partition="val")
    assert [pair.name for pair in dataset.pairs] == ["ADE_validation_1"]
    assert dataset[0].image.shape == (13, 157, 3)
    assert dataset[0].label[0, :151].tolist() == [255, *range(150)]
    assert (dataset.classes[0], dataset.classes[44], dataset.classes[149]) == (
        "wall",
        "chest of drawers",
        "flag",
    )
    assert ADE20K(root=trees.root).pairs[0].name == "ADE_training_1"


def test_ade20k_elsewhere_and_incomplete(trees):
    with pytest.raises(DataError, match=r"ADE20K not found as expected(.|\n)*ade/ADEChallengeData2016/"):
        ADE20K(root=trees.root / "nowhere")
    (trees.ade20k() / "annotations/training/ADE_training_1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 1 label maps missing in .*ADE_training_1\.png"):
        ADE20K(root=trees.root)


def test_ade20k_refuses_an_id_beyond_150(trees):
    trees.ade20k()
    trees.label("annotations/validation/ADE_validation_1.png", [0, 151], (13, 157))
    with pytest.raises(DataError, match=r"ids \[151\] are not in the schema"):
        ADE20K(root=trees.root, partition="val")[0]


def test_cityscapes_pairs_by_city(trees):
    dataset = Cityscapes(root=trees.cityscapes())
    assert [pair.name for pair in dataset.pairs] == ["aachen_000000_000019", "bonn_000000_000019"]
    assert dataset[0].label[0, :20].tolist() == [*range(19), 255]
    assert (len(dataset.classes), dataset.classes[6], dataset.classes[18]) == (19, "traffic light", "bicycle")
    assert [pair.mask.parent.name for pair in Cityscapes(root=trees.root, partition="val").pairs] == ["ulm"]


def test_cityscapes_without_converted_maps_tells_the_command(trees):
    root = trees.cityscapes(kind="labelIds")
    with pytest.raises(DataError) as caught:
        Cityscapes(root=root)
    message = str(caught.value)
    assert "2 files missing: gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png" in message
    assert f"looked in: {root}" in message
    assert "lexiseg data prepare cityscapes" in message


def test_cityscapes_without_a_city_or_without_photographs(trees):
    root = trees.cityscapes()
    (root / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelTrainIds.png").unlink()
    (root / "gtFine/val/ulm").rmdir()
    with pytest.raises(DataError, match="missing: gtFine/val/ulm"):
        Cityscapes(root=root, partition="val")
    (root / "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(DataError, match=r"no CITY/\*_leftImg8bit\.png in leftImg8bit/val"):
        Cityscapes(root=root, partition="val")
    with pytest.raises(DataError, match="missing: leftImg8bit/train, gtFine/train"):
        Cityscapes(root=root / "gtFine")


def test_coco_object_has_background_as_class_0(trees):
    dataset = CocoObject(root=trees.coco_object(), partition="val")
    assert len(dataset.classes) == 81
    assert dataset.classes[:3] == ("background", "person", "bicycle")
    assert dataset.classes[80] == "toothbrush"
    assert dataset[0].label[0, :82].tolist() == [*range(81), 255]


def test_coco_object_without_background(trees):
    dataset = CocoObject(root=trees.coco_object(), background="ignore")
    assert len(dataset.classes) == 80
    assert dataset[0].label[0, :82].tolist() == [255, *range(80), 255]
    assert CocoObject(root=trees.root, background="threshold").schema.threshold_class == 0


def test_coco_object_without_converted_maps_tells_the_command(trees):
    (trees.coco_object() / "annotations/val2017/000001_instanceTrainIds.png").unlink()
    with pytest.raises(DataError, match=r"1 of 1 label maps missing(.|\n)*lexiseg data prepare coco_object"):
        CocoObject(root=trees.root, partition="val")


def test_the_catalogue_knows_them_with_published_counts(trees):
    counts = {name: CATALOGUE[name].counts for name in ("ade20k", "cityscapes", "coco_object")}
    assert counts == {
        "ade20k": {"train": 20210, "val": 2000},
        "cityscapes": {"train": 2975, "val": 500},
        "coco_object": {"train": 118287, "val": 5000},
    }
    assert len(open_dataset("cityscapes", trees.cityscapes())) == 2
    assert len(open_dataset("ade20k", trees.ade20k(), "val")) == 1
    assert open_dataset("coco_object", trees.coco_object()).classes[0] == "background"
