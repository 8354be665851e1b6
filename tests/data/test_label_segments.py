import numpy as np
import pytest

from lexiseg.data.label_segments import label_segments
from lexiseg.segments import NO_SEGMENT

LABEL = np.array(
    [
        [0, 0, 2, 2, 0, 255, 2],
        [0, 0, 2, 2, 0, 255, 2],
        [1, 1, 1, 0, 0, 254, 1],
        [1, 0, 0, 0, 3, 3, 3],
        [1, 0, 2, 0, 3, 3, 3],
    ],
    dtype=np.uint8,
)


def test_a_thing_is_a_connected_piece_and_stuff_is_one():
    found = label_segments(LABEL, stuff=(1, 3), least=2)
    assert found.classes.tolist() == [0, 0, 1, 2, 2, 2, 3]
    assert found.things.tolist() == [True, True, False, True, True, True, False]
    assert found.crowds.tolist() == [False, False, False, False, False, True, False]
    sizes = [int(each.mask.sum()) for each in found]
    assert sizes == [4, 9, 6, 4, 2, 1, 6]
    for each in found:
        assert (LABEL[each.mask] == each.class_id).all()
    nowhere = (LABEL == 255) | (LABEL == 254)
    assert ((found.ids == NO_SEGMENT) == nowhere).all()


def test_small_pieces_are_one_crowd_of_their_class():
    found = label_segments(LABEL, stuff=(), least=5)
    assert [(each.class_id, each.is_crowd, int(each.mask.sum())) for each in found] == [
        (0, False, 9), (0, True, 4), (1, False, 5), (1, True, 1), (2, True, 7), (3, False, 6),
    ]  # fmt: skip
    assert len(found.targets(np.arange(256, dtype=np.uint8))) == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_many_classes_have_other_codes(dtype):
    label = np.full((3, 5), 254, dtype=dtype)
    label[0] = 0
    expected = [0] if dtype == np.uint8 else [0, 254]
    assert label_segments(label, stuff=(), least=1).classes.tolist() == expected


def test_a_map_without_a_label():
    found = label_segments(np.full((3, 5), 255, np.uint8), stuff=(0,))
    assert len(found) == 0
    assert (found.ids == NO_SEGMENT).all()
