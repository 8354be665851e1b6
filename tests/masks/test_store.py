"""Mask files: SA-1B's layout there and back, whose they are, and what is wrong with the others."""

import json

import numpy as np
import pytest

from lexiseg.errors import DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.sa1b import read_mask_file
from lexiseg.masks.store import MaskStore, read_masks, remove_stale_parts

SIZE = (7, 11)


def test_words_of_masks_go_with_them(masks, tmp_path):
    named = MaskSet.from_runs(SIZE, masks.runs, words=["dog", "red ball", "dog"])
    MaskStore().write(tmp_path / "a.png", named, {})
    found = MaskStore().read(tmp_path / "a.png", SIZE)
    assert found.words == ("dog", "red ball", "dog")
    assert found.chosen(np.array([1, 0])).words == ("red ball", "dog")
    assert found.largest(1).words == (named.words[int(np.argmax(named.areas))],)
    with_empty = MaskSet.from_runs(SIZE, [[77], *masks.runs], words=["none", "a", "b", "c"])
    assert with_empty.words == ("a", "b", "c")
    MaskStore().write(tmp_path / "b.png", masks, {})
    assert MaskStore().read(tmp_path / "b.png").words == ()
    assert "word" not in (tmp_path / "b.png.masks.json").read_text()


@pytest.fixture
def masks():
    overlapping = np.zeros((3, *SIZE), dtype=bool)
    overlapping[0, 1:5, 2:9] = True
    overlapping[1, 3:7, :4] = True
    overlapping[2, 3, 3] = True
    return MaskSet.from_runs(SIZE, MaskSet.from_masks(overlapping).runs, [0.9, 0.75, 0.5], [0.99, 0.98, 0.97])


def sa1b(name="sa_1.jpg", size=SIZE, annotations=None):
    """A file as SA-1B has them: two masks, a 2x2 square at the top left and everything."""
    if annotations is None:
        segmentations = [[0, 2, 5, 2, size[0] * size[1] - 9], "0]2"]
        annotations = [
            {
                "id": 300 + index,
                "segmentation": {"size": list(size), "counts": counts},
                "area": 4,
                "bbox": [0, 0, 2, 2],
                "predicted_iou": 0.9,
                "stability_score": 0.96,
                "crop_box": [0, 0, size[1], size[0]],
                "point_coords": [[0.5, 0.5]],
            }
            for index, counts in enumerate(segmentations)
        ]
    image = {"image_id": 1, "file_name": name, "width": size[1], "height": size[0]}
    return {"image": image, "annotations": annotations}


def test_masks_come_back(tmp_path, masks):
    store, image = MaskStore(), tmp_path / "photo.jpg"
    store.write(image, masks, {"provider": "test"})
    back = store.read(image, SIZE)
    assert (back.arrays() == masks.arrays()).all()
    assert back.scores.tolist() == pytest.approx([0.9, 0.75, 0.5])
    assert back.stability.tolist() == pytest.approx([0.99, 0.98, 0.97])
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg.masks.json"]


def test_the_layout_is_that_of_sa_1b(tmp_path, masks):
    image = tmp_path / "photo.jpg"
    MaskStore().write(image, masks, {"provider": "test"})
    content = json.loads(MaskStore().path(image).read_text())
    assert content["image"] == {"file_name": "photo.jpg", "width": 11, "height": 7}
    assert content["lexiseg"] == {"provider": "test"}
    first = content["annotations"][0]
    assert first["area"] == 28
    assert first["bbox"] == [2, 1, 7, 4]
    assert first["segmentation"]["size"] == [7, 11]
    assert first["predicted_iou"] == pytest.approx(0.9)
    # 15 off, seven times four on with three off between, 16 off (13 more than the run two before: "=")
    assert first["segmentation"]["counts"] == "?43" + "0" * 11 + "="


def test_a_folder_of_sa_1b_is_read_as_it_is(tmp_path):
    (tmp_path / "sa_1.json").write_text(json.dumps(sa1b()))
    masks = read_masks(tmp_path / "sa_1.jpg", SIZE)
    square = np.zeros(SIZE, dtype=bool)
    square[:2, :2] = True
    assert (masks.arrays()[0] == square).all()
    assert masks.arrays()[1].all()
    assert masks.scores.tolist() == pytest.approx([0.9, 0.9])
    assert (read_masks(tmp_path / "sa_1.jpg", max_masks=1).arrays()[0]).all()


def test_our_masks_come_before_those_of_sa_1b(tmp_path, masks):
    (tmp_path / "sa_1.json").write_text(json.dumps(sa1b()))
    MaskStore().write(tmp_path / "sa_1.jpg", masks, {})
    assert len(read_masks(tmp_path / "sa_1.jpg", SIZE)) == 3


def test_images_of_one_stem_do_not_collide(tmp_path):
    paths = {MaskStore().path(tmp_path / name) for name in ("a.jpg", "a.png", "a.jpeg")}
    assert len(paths) == 3


def test_a_folder_of_masks_mirrors_the_folder_of_images(tmp_path, masks):
    store = MaskStore(tmp_path / "masks", tmp_path / "images")
    image = tmp_path / "images" / "deep" / "a.jpg"
    store.write(image, masks, {})
    assert (tmp_path / "masks" / "deep" / "a.jpg.masks.json").is_file()
    assert len(read_masks(image, SIZE, folder=tmp_path / "masks", root=tmp_path / "images")) == 3


def test_no_masks(tmp_path):
    with pytest.raises(
        DataError, match=r"no masks for .*a\.jpg: no .*a\.jpg\.masks\.json; run `lexiseg masks build`"
    ):
        read_masks(tmp_path / "a.jpg", SIZE)


def test_masks_of_another_image(tmp_path):
    path = tmp_path / "sa_2.json"
    path.write_text(json.dumps(sa1b(name="sa_1.jpg")))
    with pytest.raises(DataError, match=r"sa_2\.json belongs to the image 'sa_1\.jpg', not to 'sa_2\.jpg'"):
        read_masks(tmp_path / "sa_2.jpg", SIZE)
    path.write_text(json.dumps(sa1b(name="sa_2.jpg")))
    with pytest.raises(
        DataError, match=r"holds masks of 7x11 pixels \(height x width\), but .*sa_2\.jpg is 11x7"
    ):
        read_masks(tmp_path / "sa_2.jpg", (11, 7))


def test_empty_masks_are_dropped_and_overlapping_ones_stay(tmp_path):
    content = sa1b()
    nothing = {"segmentation": {"size": list(SIZE), "counts": [77]}}
    content["annotations"] += [nothing, {"segmentation": {"size": list(SIZE), "counts": []}}][:1]
    (tmp_path / "a.json").write_text(json.dumps(content))
    file = read_mask_file(tmp_path / "a.json")
    assert len(file.masks) == 2
    assert file.masks.dropped == 1
    assert file.masks.arrays().all(0).any()


def with_segmentation(segmentation):
    return sa1b(annotations=[{"id": 5, "segmentation": segmentation}])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged or no JSON"),
        ("[" * 100_000, "is damaged or no JSON"),
        ("[]", "expected SA-1B's layout"),
        ('{"image": {"width": 3}, "annotations": []}', "expected SA-1B's layout.*height"),
        ('{"image": {"width": 3, "height": 2}}', "expected SA-1B's layout.*annotations"),
        (with_segmentation([[0, 0, 3, 0, 3, 3]]), r"mask 5: expected run lengths .* came polygons"),
        (with_segmentation({"size": [11, 7], "counts": [77]}), r"mask 5 is 11x7 \(height x width\), its image 7x11"),
        (with_segmentation({"size": [7, 11], "counts": [5, 6]}), "mask 5: run lengths add up to 11 pixels, the image has 77"),
        (with_segmentation({"size": [7, 11], "counts": [78, -1]}), "mask 5: run lengths"),
        (with_segmentation({"size": [7, 11], "counts": "]2\n"}), "mask 5: a run-length string with foreign"),
        (with_segmentation({"size": [7, 11], "counts": "é"}), "mask 5: "),
        (with_segmentation({"size": [7, 11]}), "expected SA-1B's layout"),
    ],
)  # fmt: skip
def test_files_that_are_no_masks(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        read_mask_file(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot read the mask file"):
        read_mask_file(tmp_path / "a.json")


def test_only_our_own_leftovers_are_removed(tmp_path):
    (tmp_path / ".abc.masks.part").write_text("half")
    for name in (".other.part", "photo.masks.part", "a.part"):
        (tmp_path / name).write_text("of others")
    assert remove_stale_parts([tmp_path, tmp_path, tmp_path / "missing"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.part", "a.part", "photo.masks.part"]
