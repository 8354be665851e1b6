import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from lexiseg.data.datasets.ade20k_full import ADE20KFull
from lexiseg.data.datasets.context459 import PascalContext459
from lexiseg.data.prepare.ade20k_full import object_table, prepare_ade20k_full, prepared_size
from lexiseg.data.prepare.context459 import prepare_context459, shifted_ids
from lexiseg.errors import DataError
from lexiseg.recipes.data import prepare_data


def test_ids_start_at_0_and_no_class_is_65535():
    assert shifted_ids(np.array([[0, 1, 255, 256, 459]])).tolist() == [[65535, 0, 254, 255, 458]]
    with pytest.raises(DataError, match="expected 0 to 459"):
        shifted_ids(np.array([[460]]))


def test_context459_from_mat_files(trees):
    raw = np.array([[0, 1, 256, 459, 23]] * 3, dtype=np.uint16)
    (trees.root / "trainval").mkdir()
    for name in ("x", "y"):
        trees.image(f"JPEGImages/{name}.jpg", (3, 5))
        savemat(trees.root / f"trainval/{name}.mat", {"LabelMap": raw})
    trees.text("ImageSets/Main/train.txt", "x", "unlabelled")
    trees.text("ImageSets/Main/val.txt", "y")
    report = prepare_data("context459", trees.root)
    assert (report.made, report.failed) == (2, [])
    assert report.notes[:2] == ["train: 1 images (published: 4996)", "val: 1 images (published: 5104)"]
    assert "still needed" in report.notes[2]
    trees.text("labels.txt", *(f"{i + 1}: word {i}" for i in range(459)))
    dataset = PascalContext459(root=trees.root, partition="val")
    assert dataset[0].label[1].tolist() == [65535, 0, 255, 458, 22]
    assert len(prepare_context459(trees.root).notes) == 2, "nothing is needed any more"


def test_context459_from_the_merged_json(trees):
    content = {
        "images": [{"image_id": 3, "file_name": "x.jpg", "height": 2, "width": 3, "phase": "val"}],
        "annos_segmentation": [{"image_id": 3, "category_id": 459, "segmentation": {"counts": "06"}}],
    }
    trees.text("trainval_merged.json", json.dumps(content))
    assert prepare_context459(trees.root).made == 1
    with Image.open(trees.root / "annotations_detectron2/pc459_val/x.tif") as image:
        assert (np.asarray(image) == 458).all()


def release(trees, size=(11, 13)):
    """A photograph of each partition; its columns show the objects 2978, 5 and 300 in turn."""
    ids = np.resize([2978, 5, 300], size[1])
    seg = np.zeros((*size, 3), np.uint8)
    seg[..., 0], seg[..., 1] = ids // 256 * 10 + 3, ids % 256
    for folder, name in (("training", "ADE_train_1"), ("validation", "ADE_val_1")):
        trees.image(f"images/ADE/{folder}/urban/street/{name}.jpg", size)
        Image.fromarray(seg).save(trees.root / f"images/ADE/{folder}/urban/street/{name}_seg.png")
    return trees.root


def class_lines(first=(300, 2978)):
    rest = range(4000, 4000 + 847 - len(first))
    return [f"{number}: thing {index}" for index, number in enumerate([*first, *rest])]


def test_ade20k_full_from_the_release(trees):
    root = release(trees)
    trees.text("classes.txt", *class_lines())
    report = prepare_ade20k_full(root)
    assert (report.made, report.failed) == (4, [])
    dataset = ADE20KFull(root=root, partition="val")
    assert dataset[0].label[0, :4].tolist() == [1, 65535, 0, 1]
    assert dataset[0].image.shape == (11, 13, 3)
    assert prepare_ade20k_full(root).skipped == 4


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 900), (512, 900)), ((600, 900), (512, 768)), ((901, 677), (681, 512)), ((700, 700), (512, 512))],
)
def test_sizes_as_published(size, expected):
    assert prepared_size(*size) == expected


def test_a_large_photograph_and_its_label_map_shrink_alike(trees):
    root = release(trees, (520, 530))
    trees.text("classes.txt", *class_lines())
    prepare_ade20k_full(root)
    sample = ADE20KFull(root=root, partition="val")[0]
    assert sample.label.shape == sample.image.shape[:2] == (512, 522)
    expected = np.resize([1, 65535, 0], 530)[np.arange(522) * 530 // 522]
    assert sample.label[7].tolist() == expected.tolist()


def test_a_list_without_numbers_cannot_be_prepared_from(trees):
    release(trees)
    trees.text("classes.txt", *(f"thing {i}" for i in range(847)))
    with pytest.raises(
        DataError, match="each of the 847 lines needs the object's own number before its name"
    ):
        object_table(trees.root)
    trees.text("classes.txt", *class_lines((300, 300)))
    with pytest.raises(DataError, match="each of the 847 lines needs"):
        object_table(trees.root)


def test_elsewhere_and_without_photographs(trees):
    with pytest.raises(DataError, match=r"missing: .*(.|\n)*images/ADE/training"):
        prepare_ade20k_full(trees.root / "nowhere")
    trees.text("classes.txt", *class_lines())
    with pytest.raises(DataError, match=r"no validation/\*\*/ADE_\*\.jpg"):
        prepare_ade20k_full(trees.root)
