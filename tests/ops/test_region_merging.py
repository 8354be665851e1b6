"""Ward merging: by hand, and against a search over all neighbours in every step."""

import itertools

import numpy as np

from lexiseg.ops.region_merging import merge_regions, neighbouring_regions


def plain_merge(features, sizes, pairs, target):
    """Join the best pair, recomputed from all members each time."""
    groups = [{region} for region in range(len(sizes))]
    touching = {frozenset(pair) for pair in pairs.tolist()}

    def error(members):
        weights, values = sizes[list(members)], features[list(members)]
        mean = (weights[:, None] * values).sum(0) / weights.sum()
        return (weights[:, None] * (values - mean) ** 2).sum()

    while len(groups) > target:
        candidates = [
            (error(a | b) - error(a) - error(b), i, j)
            for (i, a), (j, b) in itertools.combinations(enumerate(groups), 2)
            if any(frozenset((x, y)) in touching for x in a for y in b)
        ]
        if not candidates:
            break
        _, i, j = min(candidates)
        groups[i] |= groups.pop(j)
    return {frozenset(group) for group in groups}


def as_sets(labels):
    return {frozenset(np.flatnonzero(labels == index).tolist()) for index in range(labels.max() + 1)}


def test_neighbours_share_an_edge_not_a_corner():
    labels = np.array([[0, 0, 1], [2, 3, 1]])
    assert neighbouring_regions(labels).tolist() == [[0, 1], [0, 2], [0, 3], [1, 3], [2, 3]]


def test_by_hand_on_a_line():
    features = np.array([[0.0], [1.0], [1.5], [9.0]])
    pairs = np.array([[0, 1], [1, 2], [2, 3]])
    merged = merge_regions(features, np.ones(4), pairs, targets=(2, 3, 4, 9))
    assert [labels.tolist() for labels in merged] == [[0, 0, 0, 1], [0, 1, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_small_regions_join_before_large_ones():
    features, pairs = np.array([[0.0], [2.0], [3.0]]), np.array([[0, 1], [1, 2]])
    assert merge_regions(features, np.array([1.0, 100.0, 100.0]), pairs, targets=[2])[0].tolist() == [0, 0, 1]


def test_equals_a_plain_search_and_finer_refines_coarser():
    rng = np.random.default_rng(5)
    grid = np.arange(20).reshape(4, 5)
    features, sizes, pairs = rng.normal(size=(20, 3)), rng.uniform(1, 9, 20), neighbouring_regions(grid)
    coarse, fine = merge_regions(features, sizes, pairs, targets=(4, 11))
    assert as_sets(coarse) == plain_merge(features, sizes, pairs, 4)
    assert as_sets(fine) == plain_merge(features, sizes, pairs, 11)
    assert all(any(small <= large for large in as_sets(coarse)) for small in as_sets(fine))


def test_what_does_not_touch_stays_apart():
    merged = merge_regions(np.zeros((4, 1)), np.ones(4), np.array([[0, 1], [2, 3]]), targets=[1])
    assert merged[0].tolist() == [0, 0, 1, 1]
