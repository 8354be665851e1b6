"""All pieces of a label map at once, against one class after the other."""

import numpy as np
import pytest
from scipy import ndimage

from lexiseg.ops.connected_pieces import connected_pieces


@pytest.mark.parametrize(("whole", "nothing"), [((), ()), ((2, 7), ()), ((2,), (0, 3)), (range(300), ())])
def test_against_one_class_after_the_other(whole, nothing):
    labels = np.random.default_rng(1).choice([0, 2, 3, 255, 299], (11, 13)).astype(np.uint16)
    found = connected_pieces(labels, whole=whole, nothing=nothing)
    expected = []
    for class_id in np.unique(labels):
        if class_id in nothing:
            continue
        region = labels == class_id
        pieces, count = (region, 1) if class_id in whole else ndimage.label(region)
        expected += [(int(class_id), pieces == index) for index in range(1, count + 1)]
    expected.sort(key=lambda piece: np.flatnonzero(piece[1])[0])
    assert found.classes.tolist() == [class_id for class_id, _ in expected]
    for index, (_, mask) in enumerate(expected, start=1):
        assert (mask == (found.ids == index)).all()
    assert found.areas.tolist() == [mask.sum() for _, mask in expected]
    values = np.random.default_rng(2).random(labels.shape).astype(np.float32)
    assert np.allclose(found.means(values), [values[mask].mean() for _, mask in expected])


def test_none_is_left_where_nothing_counts():
    found = connected_pieces(np.full((2, 3), 5), nothing=(5,))
    assert (found.ids == 0).all()
    assert len(found.classes) == len(found.areas) == 0
    assert connected_pieces(np.zeros((0, 3), dtype=int)).ids.shape == (0, 3)
