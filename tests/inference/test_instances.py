import numpy as np
import pytest

from lexiseg.inference.instances import Instance, InstanceSegmentation
from lexiseg.ops.run_length import decode_rle, encode_rle, expand_counts


def thing(class_id, score, rows, columns, size=(5, 7)):
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return Instance(class_id, score, np.array(encode_rle(mask)))


THINGS = (
    thing(1, 0.9, slice(0, 3), slice(0, 4)),
    thing(2, 0.7, slice(1, 5), slice(3, 7)),
    thing(1, 0.5, slice(0, 2), slice(0, 4)),  # under the first
)
FOUND = InstanceSegmentation((5, 7), THINGS, {0: "road", 1: "car", 2: "dog"}, frozenset({"road"}))


def test_what_is_told():
    assert FOUND.describe() == "2 x car (best 0.90), 1 x dog (best 0.70)"
    assert FOUND.describe(most=1) == "2 x car (best 0.90), and 1 more"
    assert InstanceSegmentation((5, 7), (), {0: "road"}).describe() == "no thing"
    assert "2 x car" in repr(FOUND)


def test_cocos_form():
    first, second, _ = FOUND.to_coco()
    assert (first["category_id"], first["area"], first["bbox"], first["score"]) == (1, 12, [0, 0, 4, 3], 0.9)
    assert (second["area"], second["bbox"], second["iscrowd"]) == (16, [3, 1, 4, 4], 0)
    for entry, index in ((first, 0), (second, 1)):
        runs = expand_counts(entry["segmentation"]["counts"])
        mask = decode_rle(runs, tuple(entry["segmentation"]["size"]))
        assert (mask == FOUND.mask(index)).all()


def test_a_poor_guess_is_not_drawn():
    poor = InstanceSegmentation((5, 7), (thing(1, 0.29, slice(0, 3), slice(0, 4)),), FOUND.id2label)
    nothing = InstanceSegmentation((5, 7), (), FOUND.id2label)
    image = np.zeros((5, 7, 3), np.uint8)
    assert poor.overlay(image).tobytes() == nothing.overlay(image).tobytes()
    assert len(poor.to_coco()) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_better_one_is_drawn_and_what_it_hides_is_not(order, monkeypatch):
    seen = {}

    def draw(image, labels, names, *, unseen, outlines):
        seen.update(labels=labels, outlines=outlines, names=names)

    monkeypatch.setattr("lexiseg.inference.instances.overlay_image", draw)
    InstanceSegmentation((5, 7), tuple(THINGS[i] for i in order), FOUND.id2label).overlay(
        np.zeros((5, 7, 3), np.uint8)
    )
    numbers = {int(n): int((seen["outlines"] == n).sum()) for n in np.unique(seen["outlines"]) if n}
    # The first leaves 14 of the second's pixels and none of the third's; the third leaves 4 of the first's 12, and 15.
    assert numbers == ({1: 12, 2: 14} if order == (0, 1, 2) else {1: 8, 2: 15})
    assert set(np.unique(seen["labels"])) == {1, 2, 3}
    assert seen["names"][3] == "(no class)"


def test_the_picture():
    assert FOUND.overlay(np.zeros((5, 7, 3), np.uint8)).height >= 360
