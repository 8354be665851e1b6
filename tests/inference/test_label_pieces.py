"""Objects of a label map, counted by hand."""

import json

import numpy as np
import pytest

from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference import label_pieces
from lexiseg.inference.pictures import NO_CLASS
from lexiseg.inference.result import Segmentation

LABELS = np.array(
    [
        [1, 1, 0, 1, 1],
        [0, 0, 0, 2, 1],
        [0, 2, 0, 1, 1],
    ],
    dtype=np.uint8,
)


def result(**kwargs):
    scores = np.linspace(0, 1, LABELS.size, dtype=np.float32).reshape(LABELS.shape)
    given = {
        "scores": scores,
        "id2label": {0: "sky", 1: "dog", 2: "cat", 3: "cow"},
        "protocol": {"name": "test"},
    }
    return Segmentation(LABELS, **{**given, **kwargs})


def test_a_class_is_one_object():
    found = result().to_instances()
    assert [(thing.class_id, thing.area) for thing in found.things] == [(2, 2), (0, 6), (1, 7)]
    for index, thing in enumerate(found.things):
        assert (found.mask(index) == (thing.class_id == LABELS)).all()
        assert thing.score == pytest.approx(result().scores[thing.class_id == LABELS].mean())
    assert found.id2label[3] == "cow"


def test_a_piece_is_one_object_and_stuff_is_whole():
    found = result(scores=None).to_instances(pieces=True, stuff="cat")
    assert [(thing.class_id, thing.area) for thing in found.things] == [(1, 2), (0, 6), (1, 5), (2, 2)]
    assert all(np.isnan(thing.score) for thing in found.things)
    assert found.mask(2).tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 1, 1]]
    assert len(result().to_instances(pieces=True).things) == 5


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"id2label": {0: "sky", 1: "dog", 2: NO_CLASS}}, {0, 1}),
        ({"protocol": {"background": "class"}}, {1, 2}),
        ({"id2label": {0: "sky", 1: "dog", 2: NO_CLASS}, "protocol": {"background": "class"}}, {1}),
    ],
)
def test_no_class_and_background_are_no_objects(changes, left):
    made = result(**changes)
    assert {thing.class_id for thing in made.to_instances().things} == left
    segments = made.to_panoptic()
    assert {segment.class_id for segment in segments.segments} == left
    assert (segments.ids == 0).sum() == np.isin(LABELS, list({0, 1, 2} - left)).sum()
    assert NO_CLASS not in segments.id2label.values()
    for index, thing in enumerate(made.to_instances().things):
        assert (made.to_instances().mask(index) == (thing.class_id == LABELS)).all()


def test_panoptic_of_labels():
    made = result().to_panoptic(stuff=["sky"])
    assert [(each.id, each.class_id, each.thing, each.area) for each in made.segments] == [
        (1, 1, True, 2), (2, 0, False, 6), (3, 1, True, 5), (4, 2, True, 1), (5, 2, True, 1),
    ]  # fmt: skip
    assert (made.class_map() == LABELS).all()
    told = made.to_coco()
    assert [(each["id"], each["bbox"]) for each in told][:3] == [
        (1, [0, 0, 2, 1]), (2, [0, 0, 3, 3]), (3, [3, 0, 2, 3]),
    ]  # fmt: skip
    assert told[0]["score"] == pytest.approx(result().scores[0, :2].mean())
    assert result(scores=None).to_panoptic().to_coco()[0]["score"] is None
    things = made.to_instances()
    assert sorted((thing.class_id, thing.area) for thing in things.things) == [
        (0, 6), (1, 2), (1, 5), (2, 1), (2, 1),
    ]  # fmt: skip


def test_stuff_that_is_no_class_and_too_many_pieces(monkeypatch):
    with pytest.raises(ConfigError, match="'grass' is none of the classes"):
        result().to_panoptic(stuff="grass")
    monkeypatch.setattr(label_pieces, "_MOST_SEGMENTS", 4)
    with pytest.raises(LexisegError, match="5 pieces are more than the 4"):
        result().to_panoptic(stuff="sky")


def test_coco_form():
    dog, _, cat = result(scores=None).to_coco()
    told = result().to_coco()
    assert [each["category_name"] for each in told] == ["cat", "sky", "dog"]
    assert all(each["iscrowd"] == 0 for each in told)
    assert (dog["bbox"], dog["area"], dog["score"]) == ([0, 0, 5, 3], 7, None)
    assert len(result().to_coco(pieces=True)) == 5
    pieces = result().to_coco(polygons=True)[0]["segmentation"]
    assert pieces == [[3, 1, 4, 1, 4, 2, 3, 2], [1, 2, 2, 2, 2, 3, 1, 3]]
    json.dumps([cat, told, pieces])


def test_nothing_at_all():
    empty = Segmentation(np.zeros((2, 3), np.uint8), None, {0: NO_CLASS})
    assert empty.to_instances().things == ()
    assert empty.to_coco() == []
    assert empty.to_yolo() == ""
    assert empty.to_geojson() == {"type": "FeatureCollection", "features": []}
    assert empty.to_labelme("a.jpg")["shapes"] == []
    assert empty.to_panoptic().segments == ()
