"""Objects by normalised cuts, against values by hand and a plain solver."""

import numpy as np
import pytest
from scipy import linalg

from lexiseg.ops import normalized_cut
from lexiseg.ops.normalized_cut import (
    above_mean,
    corners_in,
    cut_objects,
    cut_vector,
    object_side,
    patch_graph,
    piece_at,
    seed_of,
    settled,
)


def some_weights(count: int = 13) -> np.ndarray:
    features = np.random.default_rng(3).normal(size=(2, count))
    return patch_graph(features, threshold=0.3)


def two_things() -> np.ndarray:
    """Features ``(3, 5, 7)`` of a ground and an upright thing of 2×3 patches, a little of each in all."""
    features = np.zeros((3, 5, 7))
    features[0] = 1
    features[:, 1:3, 2:5] = np.array([0, 1, 0])[:, None, None]
    return features + 0.01 * np.random.default_rng(0).normal(size=features.shape)


def test_patches_are_joined_above_the_threshold() -> None:
    features = np.array([[2.0, 3.0, 0.0], [0.0, 4.0, 5.0]])  # cosines 0.6, 0 and 0.8
    graph = patch_graph(features, threshold=0.7)
    floor = np.float32(1e-5)
    assert graph.tolist() == [[1, floor, floor], [floor, 1, 1], [floor, 1, 1]]


def test_a_patch_of_nothing_is_joined_to_itself() -> None:
    assert patch_graph(np.zeros((3, 2)), threshold=0.3)[0, 0] == 1


def test_the_vector_solves_the_generalised_problem() -> None:
    weights = some_weights().astype(np.float64)
    degree = weights.sum(axis=1)
    values, vectors = linalg.eigh(np.diag(degree) - weights, np.diag(degree))
    ours, theirs = cut_vector(weights), vectors[:, 1]
    assert values[2] - values[1] > 0.01
    np.testing.assert_allclose(ours, theirs * np.sign(theirs[np.abs(theirs).argmax()]), atol=1e-9)
    assert ours @ (degree * ours) == pytest.approx(1)


def test_lanczos_finds_the_same_vector(monkeypatch) -> None:
    weights = some_weights(61)
    whole = cut_vector(weights)
    monkeypatch.setattr(normalized_cut, "_DENSE", 7)
    np.testing.assert_allclose(cut_vector(weights), whole, atol=1e-5)
    np.testing.assert_array_equal(cut_vector(weights), cut_vector(weights))


def test_sides_by_hand() -> None:
    free = np.array([[True, True, False], [True, True, True]])
    vector = np.array([-1.0, 0.5, 3.0, -1.5, 0.0])  # mean 0.2
    side = above_mean(vector, free)
    assert side.tolist() == [[False, True, False], [True, False, False]]
    assert seed_of(vector, free) == (1, 0)
    assert corners_in(side) == 1
    kept, same = object_side(vector, side, free)
    assert (kept == vector).all()
    assert (same == side).all()


def test_a_side_without_the_largest_entry_is_turned_around() -> None:
    free = np.array([[True, True, False], [True, True, True]])
    vector = np.array([-4.0, 0.5, 3.0, -1.5, 2.0])  # the largest is the first, below the mean
    turned, side = object_side(vector, above_mean(vector, free), free)
    assert turned.tolist() == (-vector).tolist()
    assert side.tolist() == [[True, False, False], [False, True, False]]


def test_a_side_of_three_corners_is_the_ground() -> None:
    free = np.ones((2, 3), dtype=bool)
    vector = np.array([1.0, -1.0, 1.0, 5.0, 0.0, -2.0])
    side = above_mean(vector, free)
    assert corners_in(side) == 3
    _, turned = object_side(vector, side, free)
    assert (turned == ~side).all()


def test_only_the_piece_of_the_seed_is_taken() -> None:
    side = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0]], dtype=bool)  # neighbours by a corner are apart
    assert piece_at(side, (0, 2)).tolist() == [
        [False, False, True],
        [False, True, True],
        [False, False, False],
    ]


def test_the_thing_is_found_first_then_the_ground() -> None:
    masks = cut_objects(two_things(), threshold=0.3, most=2)
    thing = np.zeros((5, 7), dtype=bool)
    thing[1:3, 2:5] = True
    assert (masks[0] == thing).all()
    assert not (masks[0] & masks[1]).any()
    assert masks[1].sum() > 0


def test_cutting_stops_at_five_patches() -> None:
    features = np.random.default_rng(0).normal(size=(4, 2, 3))
    masks = cut_objects(features, threshold=0.3, most=8)
    assert len(masks) >= 1
    assert (~masks[:-1].any(axis=0)).sum() > 5
    assert cut_objects(features[:, :1], threshold=0.3, most=8).shape == (0, 1, 3)


def test_holes_are_filled_and_lost_masks_emptied() -> None:
    ring = np.zeros((5, 7), dtype=bool)
    ring[1:4, 1:4] = True
    before = ring.copy()
    ring[2, 2] = False
    assert (settled(before, ring, least_overlap=1.0) == before).all()
    assert (settled(ring, ring, least_overlap=0.8) == before).all()  # 8 of 9 pixels in common
    assert not settled(ring, ring, least_overlap=0.9).any()
