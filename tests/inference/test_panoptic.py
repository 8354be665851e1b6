import numpy as np
import pytest

from lexiseg.errors import LexisegError
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.ops.mask_classification import PanopticSegment

IDS = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2], [3, 3, 3, 3, 0]], np.int32)
SEGMENTS = (
    PanopticSegment(1, 1, True, 4, 0.9),
    PanopticSegment(2, 1, True, 4, 0.8),
    PanopticSegment(3, 0, False, 4, 0.7),
)
FOUND = PanopticSegmentation(
    IDS, SEGMENTS, {0: "road", 1: "car"}, frozenset({"road"}), ("car",), {"name": "own"}
)


def test_what_is_told():
    assert FOUND.describe() == "2 x car 53.3 %, road 26.7 %"
    assert FOUND.describe(most=1) == "2 x car 53.3 %, and 1 more"
    assert "2 x car" in repr(FOUND)
    assert FOUND.size == (3, 5)
    empty = PanopticSegmentation(np.zeros((2, 3), np.int32), (), {0: "road"})
    assert empty.describe() == "no segment"
    assert (empty.class_map() == 1).all()
    assert empty.to_coco() == []


def test_classes_of_pixels():
    assert FOUND.class_map().tolist() == [[1, 1, 2, 1, 1], [1, 1, 2, 1, 1], [0, 0, 0, 0, 2]]


def test_cocos_form():
    assert [(each["id"], each["category_id"], each["area"], each["bbox"]) for each in FOUND.to_coco()] == [
        (1, 1, 4, [0, 0, 2, 2]),
        (2, 1, 4, [3, 0, 2, 2]),
        (3, 0, 4, [0, 2, 4, 1]),
    ]
    assert {each["iscrowd"] for each in FOUND.to_coco()} == {0}
    large = PanopticSegmentation(np.array([[0, 70000, 300]], np.int32), (), {0: "road"})
    red, green, blue = np.moveaxis(np.asarray(large.id_image()).astype(int), -1, 0)
    assert (red + 256 * green + 65536 * blue).tolist() == [[0, 70000, 300]]


def test_a_border_around_each_segment_of_a_class():
    image = np.full((360, 400, 3), 60, np.uint8)
    ids = np.ones((360, 400), np.int32)
    ids[:, 150:] = 2
    pair = PanopticSegmentation(
        ids,
        (PanopticSegment(1, 1, True, 360 * 150, 0.9), PanopticSegment(2, 1, True, 360 * 250, 0.9)),
        FOUND.id2label,
    )
    one = PanopticSegmentation(
        np.ones_like(ids), (PanopticSegment(1, 1, True, 360 * 400, 0.9),), FOUND.id2label
    )
    drawn, plain = (np.asarray(each.overlay(image)) for each in (pair, one))
    changed = np.flatnonzero((drawn != plain).any(axis=(0, 2)))
    assert changed.tolist() == [149]
    with pytest.raises(LexisegError, match="3x5"):
        FOUND.overlay(image)
    assert FOUND.overlay(np.zeros((3, 5, 3), np.uint8)).height >= 360, (
        "a small one is enlarged with its borders"
    )


def test_a_tall_picture_is_drawn_in_bands_with_its_borders():
    image = np.full((1100, 20, 3), 60, np.uint8)
    ids = np.ones((1100, 20), np.int32)
    ids[900:] = 2
    segments = (PanopticSegment(1, 1, True, 18000, 0.9), PanopticSegment(2, 1, True, 4000, 0.9))
    drawn = np.asarray(PanopticSegmentation(ids, segments, FOUND.id2label).overlay(image))[:, :20]
    assert np.flatnonzero((drawn[1:] != drawn[:-1]).any(axis=(1, 2))).tolist() == [898, 899]
