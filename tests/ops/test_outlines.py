"""Polygons along pixel edges, against a naive reading of points inside them."""

import numpy as np
import pytest
from scipy import ndimage

from lexiseg.ops.outlines import outlines, ring_area


def inside(ring, size):
    """Pixels whose centre a ray to the left leaves the ring an odd number of times."""
    width = size[1]
    found = np.zeros(size, dtype=bool)
    for (x, y), (other_x, other_y) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        assert x == other_x or y == other_y
        if x == other_x:
            found[min(y, other_y) : max(y, other_y), x:width] ^= True
    return found


def masks():
    rng = np.random.default_rng(3)
    for share in (0.2, 0.5, 0.62, 0.8, 0.97):
        yield rng.random((13, 17)) < share
    yield np.ones((5, 7), dtype=bool)
    rings = np.zeros((19, 23), dtype=bool)
    for step in range(0, 10, 2):  # a hole with an island with a hole ...
        rings[step : 19 - step, step : 23 - step] = True
        rings[step + 1 : 18 - step, step + 1 : 22 - step] = False
    yield rings
    yield np.kron(rng.random((5, 7)) < 0.5, np.ones((7, 5))).astype(bool)


@pytest.mark.parametrize("mask", list(masks()))
def test_polygons_hold_the_pixels_and_no_other(mask):
    found = outlines(mask)
    names, count = ndimage.label(mask)
    assert len(found) == count
    covered = np.zeros(mask.shape, dtype=int)
    for piece in found:
        whole = inside(piece.outer, mask.shape)
        for hole in piece.holes:
            assert ring_area(hole) < 0 < ring_area(piece.outer)
            whole &= ~inside(hole, mask.shape)
        assert piece.area == whole.sum()
        assert len(np.unique(names[whole])) == 1
        covered += whole
        line = piece.one_ring()
        assert ring_area(line) == piece.area
        assert (inside(line, mask.shape) == whole).all()
        assert (np.abs(np.diff(line, axis=0, append=line[:1])).sum(1) > 0).all()
    assert (covered == mask).all()


def test_by_hand():
    mask = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)
    ring, dot = outlines(mask, origin=(10, 20))
    assert ring.outer.tolist() == [[10, 20], [13, 20], [13, 23], [10, 23]]
    assert [hole.tolist() for hole in ring.holes] == [[[11, 21], [11, 22], [12, 22], [12, 21]]]
    assert ring.area == 8
    assert ring.one_ring().tolist() == [
        [10, 20], [11, 20], [11, 21], [11, 22], [12, 22], [12, 21], [11, 21], [11, 20], [13, 20], [13, 23], [10, 23],
    ]  # fmt: skip
    assert dot.outer.tolist() == [[13, 23], [14, 23], [14, 24], [13, 24]]


def test_nothing_has_no_outline():
    assert outlines(np.zeros((3, 5), dtype=bool)) == []
    assert outlines(np.zeros((0, 5), dtype=bool)) == []
