"""Stability, overlaps and suppression: by hand and against plain loops."""

import numpy as np
import pytest
import torch

from lexiseg.ops.mask_suppression import box_overlaps, mask_overlaps, stability_score, suppress_overlaps
from lexiseg.ops.nearest import nearest_indices
from lexiseg.ops.point_grid import point_grid


def test_stability_by_hand():
    logits = torch.tensor([[[2.0, 1.5, 0.5, -0.5, -2.0]], [[-3.0] * 5], [[4.0] * 5]])
    assert stability_score(logits).tolist() == [0.5, 0.0, 1.0]
    assert stability_score(logits, threshold=1.0, offset=0.75)[0] == pytest.approx(1 / 3)


def test_stability_is_an_intersection_over_union():
    logits = 3 * torch.randn(5, 7, 11, generator=torch.Generator().manual_seed(0))
    for index, score in enumerate(stability_score(logits, threshold=0.3, offset=0.7)):
        high, low = logits[index] > 1.0, logits[index] > -0.4
        assert score == pytest.approx(float((high & low).sum() / (high | low).sum()))


def test_box_overlaps_by_hand():
    boxes = torch.tensor([[0, 0, 4, 2], [2, 0, 4, 2], [10, 10, 1, 1]])
    expected = torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(box_overlaps(boxes), expected)


def test_mask_overlaps_equal_loops():
    masks = torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.4
    masks[3] = False
    found = mask_overlaps(masks)
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            union = int((a | b).sum())
            assert found[i, j] == pytest.approx(int((a & b).sum()) / union if union else 0)


def plain_suppression(overlaps, scores, limit):
    kept = []
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(overlaps[index][other] <= limit for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.7, 1.0])
def test_suppression_equals_a_plain_loop_in_any_order(limit):
    generator = torch.Generator().manual_seed(2)
    boxes = torch.randint(1, 12, (30, 4), generator=generator)
    scores = torch.rand(30, generator=generator)
    kept = suppress_overlaps(box_overlaps(boxes), scores, limit=limit)
    assert kept.tolist() == plain_suppression(box_overlaps(boxes).tolist(), scores.tolist(), limit)
    order = torch.randperm(30, generator=generator)
    again = suppress_overlaps(box_overlaps(boxes[order]), scores[order], limit=limit)
    assert order[again].tolist() == kept.tolist()


def test_nothing_to_suppress():
    assert not len(
        suppress_overlaps(mask_overlaps(torch.zeros(0, 3, 5, dtype=torch.bool)), torch.zeros(0), limit=0)
    )


def test_points_are_centres_of_equal_parts():
    grid = point_grid(2)
    assert grid.tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    places = np.linspace(1 / 64, 1 - 1 / 64, 32)
    np.testing.assert_allclose(point_grid(32).view(32, 32, 2)[5, :, 0], places)
    np.testing.assert_allclose(point_grid(32).view(32, 32, 2)[:, 5, 1], places)


def test_nearest_indices_by_hand():
    assert nearest_indices(4, 2).tolist() == [1, 3]
    assert nearest_indices(2, 5).tolist() == [0, 0, 1, 1, 1]
    assert nearest_indices(7, 7).tolist() == list(range(7))
