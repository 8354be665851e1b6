"""Attention within regions and regions that are joined: by hand and against plain loops."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.bounded_attention import (
    bounded_weights,
    linked_groups,
    merge_alike,
    region_distances,
    region_means,
)


def features(count: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, channels, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_means_are_of_regions_alone():
    vectors, ids = features(7), torch.tensor([0, 5, 5, 2, -1, 0, 2])
    values, means = region_means(vectors, ids)
    assert values.tolist() == [2, 5]
    expected = F.normalize(torch.stack([(vectors[3] + vectors[6]) / 2, (vectors[1] + vectors[2]) / 2]), dim=1)
    torch.testing.assert_close(means, expected)


def test_distances_by_hand():
    means = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    expected = torch.tensor([[0.0, 0.4, 1.0], [0.4, 0.0, 0.2], [1.0, 0.2, 0.0]])
    torch.testing.assert_close(region_distances(means), expected)


def test_links_chain():
    pairs = [(0, 6), (6, 3), (1, 4)]
    linked = torch.eye(7, dtype=torch.bool)
    for first, second in pairs:
        linked[first, second] = linked[second, first] = True
    assert linked_groups(linked).tolist() == [0, 1, 2, 0, 1, 3, 0]
    assert linked_groups(torch.zeros(0, 0, dtype=torch.bool)).tolist() == []


def test_regions_that_are_alike_become_one():
    angles = torch.tensor([0.0, 0.5, 1.0, 3.0, 0.1])  # cosines of half a radian: 0.88
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    ids = torch.tensor([7, 3, 9, 4, 0])
    assert merge_alike(vectors, ids, distance=0.2).tolist() == [1, 1, 1, 2, 0], (
        "in a chain, ids from the smallest"
    )
    assert merge_alike(vectors, ids, distance=0.1).tolist() == [3, 1, 4, 2, 0]
    padded = torch.tensor([7, 3, -1, 4, 0])
    assert merge_alike(vectors, padded, distance=2.0).tolist() == [1, 1, -1, 1, 0], (
        "padding and the rest stay"
    )
    alone = torch.tensor([0, 8, 8, -1, 0])
    assert merge_alike(vectors, alone, distance=2.0) is alone


def test_weights_against_plain_loops():
    vectors = torch.stack([features(11, seed=1), features(11, seed=2)])
    ids = torch.tensor([[0, 1, 1, 2, 0, 2, -1, -1, 3, 0, 1], [4] * 5 + [0] * 6])
    similarity = vectors @ vectors.transpose(1, 2)
    found = bounded_weights(similarity, ids, sharpness=4.0)
    for image in range(2):
        mean = similarity[image].mean()
        for row in range(11):
            numbers = []
            for column in range(11):
                mine, other, value = ids[image, row], ids[image, column], similarity[image, row, column]
                seen = value > mean if 0 in (mine, other) else mine == other
                numbers.append(torch.exp(4 * value) if seen or row == column else torch.tensor(0.0))
            expected = torch.stack(numbers) / sum(numbers)
            torch.testing.assert_close(found[image, row], expected)


@pytest.mark.parametrize("number", [0, 1])
def test_one_colour_gives_numbers(number):
    weights = bounded_weights(torch.ones(1, 5, 5), torch.full((1, 5), number), sharpness=4.0)
    torch.testing.assert_close(weights[0], torch.eye(5) if number == 0 else torch.full((5, 5), 0.2))
