import numpy as np
import pytest

from lexiseg.cli.main import main
from lexiseg.data.datasets.cityscapes import Cityscapes
from lexiseg.data.datasets.coco_object import CocoObject
from lexiseg.data.prepare.cityscapes import EVALUATED, prepare_cityscapes, to_train_ids
from lexiseg.data.prepare.coco_object import prepare_coco_object, to_object_ids
from lexiseg.errors import DataError


def test_cityscapes_34_to_19(trees):
    # unlabeled, ego vehicle, road, sidewalk, parking, building, traffic light, sky, bus, caravan, train, bicycle
    ids = [0, 1, 7, 8, 9, 11, 19, 23, 28, 29, 31, 33, 255]
    root = trees.cityscapes(ids=ids, kind="labelIds")
    report = prepare_cityscapes(root)
    assert (report.made, report.failed) == (3, [])
    expected = [255, 255, 0, 1, 255, 2, 6, 10, 15, 255, 16, 18, 255]
    dataset = Cityscapes(root=root)
    assert dataset[0].label[0, :13].tolist() == expected
    shown = [dataset.classes[i] for i in expected if i != 255]
    assert shown == ["road", "sidewalk", "building", "traffic light", "sky", "bus", "train", "bicycle"]
    assert report.notes == ["train: 2 images (published: 2975)", "val: 1 images (published: 500)"]
    again = prepare_cityscapes(root)
    assert (again.made, again.skipped) == (0, 3)


def test_cityscapes_evaluates_19_ids_in_ascending_order():
    assert len(EVALUATED) == 19
    assert list(EVALUATED) == sorted(set(EVALUATED))
    # The 15 of 34 that Cityscapes leaves out.
    assert set(range(34)) - set(EVALUATED) == {0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30}


def test_cityscapes_from_another_folder(trees):
    root = trees.cityscapes(kind="labelIds", ids=[7])
    (root / "gtFine").rename(root / "elsewhere")
    assert prepare_cityscapes(root, root / "elsewhere").made == 3
    assert (Cityscapes(root=root, partition="val")[0].label == 0).all()


def test_cityscapes_mistakes(trees):
    with pytest.raises(DataError, match=r"no train/CITY/\*_gtFine_labelIds\.png(.|\n)*--source FOLDER"):
        prepare_cityscapes(trees.root)
    path = trees.label("x_gtFine_labelIds.png", [7, 34])
    with pytest.raises(DataError, match=r"x_gtFine_labelIds\.png holds ids \[34\]"):
        to_train_ids(path)


def test_coco_object_from_coco_stuff(trees):
    root = trees.coco_object()
    for folder in ("train2017", "val2017"):
        (root / f"annotations/{folder}/000001_instanceTrainIds.png").unlink()
    # person, fire hydrant, stop sign, toothbrush; banner, wood and unlabelled are background
    raw = trees.label("annotations/train2017/000001.png", [0, 10, 12, 89, 91, 181, 255], (13, 89))
    report = prepare_coco_object(root)
    assert (report.made, report.failed) == (2, [])
    assert to_object_ids(raw)[0, :7].tolist() == [1, 11, 12, 80, 0, 0, 0]
    dataset = CocoObject(root=root)
    shown = [dataset.classes[i] for i in dataset[0].label[0, :7]]
    assert shown[:4] == ["person", "fire hydrant", "stop sign", "toothbrush"]
    assert set(shown[4:]) == {"background"}
    assert prepare_coco_object(root).skipped == 2
    assert "val: 1 images (published: 5000)" in report.notes


def test_coco_object_of_every_used_id(trees):
    unused = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    used = [i for i in range(182) if i not in unused]
    raw = trees.label("all.png", used, (2, len(used)))
    assert to_object_ids(raw)[0].tolist() == [*range(1, 81), *([0] * 91)]


def test_coco_object_mistakes(trees):
    reserved = trees.label("annotations/val2017/000002.png", [0, 11])
    with pytest.raises(DataError, match=r"000002\.png holds ids \[11\]"):
        to_object_ids(reserved)
    with pytest.raises(DataError, match="COCO-Object not found as expected"):
        prepare_coco_object(trees.root, trees.root / "nowhere")


def test_from_the_command_line(trees, capsys):
    root = str(trees.cityscapes(kind="labelIds", ids=[7, 33]))
    assert main(["data", "prepare", "cityscapes", "--root", root]) == 0
    assert "3 made, 0 already there, 0 failed" in capsys.readouterr().out
    assert main(["data", "check", "--data", "cityscapes", "--root", root, "--overlays", "0"]) == 0
    assert "2 images, 19 classes" in capsys.readouterr().out


def test_ade20k_is_verified(trees, capsys):
    root = trees.ade20k()
    assert main(["data", "prepare", "ade20k", "--root", str(root)]) == 0
    assert "val: 1 images (published: 2000)" in capsys.readouterr().out
    trees.label("annotations/validation/ADE_validation_1.png", np.array([151]), (13, 157))
    assert main(["data", "prepare", "ade20k", "--root", str(root)]) == 1
    assert "ids [151] are not in the schema" in capsys.readouterr().out


def test_help_names_every_data_set(capsys):
    with pytest.raises(SystemExit):
        main(["data", "prepare", "--help"])
    told = capsys.readouterr().out
    assert all(
        name in told for name in ("ade20k", "camvid", "cityscapes", "coco_object", "coco_stuff", "voc")
    )
