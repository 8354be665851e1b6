"""Masks held as run lengths: decoded whole, smaller, or as any window."""

import numpy as np
import pytest

from lexiseg.masks.mask_set import MaskSet

SIZE = (7, 11)


@pytest.fixture
def masks():
    rng = np.random.default_rng(0)
    return rng.random((5, *SIZE)) < np.array([0.1, 0.9, 0.5, 0.3, 0.7])[:, None, None]


def test_masks_come_back_with_areas_and_scores(masks):
    held = MaskSet.from_masks(masks, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert (held.arrays() == masks).all()
    assert (np.stack(list(held)) == masks).all()
    assert held.areas.tolist() == masks.sum((1, 2)).tolist()
    assert held.scores.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert held.stability.tolist() == [1] * 5


def test_empty_masks_are_dropped_and_counted(masks):
    masks[[1, 3]] = False
    held = MaskSet.from_masks(masks, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert held.dropped == 2
    assert (held.arrays() == masks[[0, 2, 4]]).all()
    assert held.scores.tolist() == pytest.approx([0.1, 0.3, 0.5])


def test_the_largest_first(masks):
    held = MaskSet.from_masks(masks, [0.1, 0.2, 0.3, 0.4, 0.5]).largest(2)
    assert (held.arrays() == masks[[1, 4]]).all()
    assert held.scores.tolist() == pytest.approx([0.2, 0.5])


@pytest.mark.parametrize("at", [(3, 5), (13, 17), (7, 2), (1, 1)])
def test_another_size_takes_the_pixel_under_each_centre(masks, at):
    rows = [int((i + 0.5) * SIZE[0] / at[0]) for i in range(at[0])]
    columns = [int((j + 0.5) * SIZE[1] / at[1]) for j in range(at[1])]
    assert (MaskSet.from_masks(masks).arrays(at) == masks[:, rows][:, :, columns]).all()


def test_windows_flips_and_repetitions(masks):
    rows, columns = np.array([5, 2, 2, 6]), np.array([10, 9, 9, 0, 4])
    expected = masks[:, rows][:, :, columns]
    assert (MaskSet.from_masks(masks).sample(rows, columns) == expected).all()


def test_label_maps_become_one_mask_per_id_and_repeated_masks_one():
    coarse = np.array([[0, 0, 1], [0, 0, 1]])
    fine = np.array([[4, 4, 2], [7, 7, 2]])
    held = MaskSet.from_labels(coarse, fine)
    found = {mask.tobytes() for mask in held.arrays()}
    assert held.areas.tolist() == [4, 2, 2, 2]
    assert found == {mask.tobytes() for mask in (coarse == 0, coarse == 1, fine == 4, fine == 7)}


def test_no_masks():
    held = MaskSet.from_runs(SIZE, [])
    assert len(held) == 0
    assert held.arrays((3, 5)).shape == (0, 3, 5)
    assert len(held.largest(4)) == 0
