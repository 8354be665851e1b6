"""Searches without gradients."""

import pytest
import torch

from lexiseg.ops.line_search import best_candidate, coordinate_ascent


def test_the_best_candidate_and_the_first_among_equals():
    assert best_candidate((3.0, -1.0, 1.0), lambda each: -abs(each)) == (-1.0, -1.0)
    with pytest.raises(ValueError, match="at least one"):
        best_candidate((), float)


def test_each_number_goes_where_the_score_is_highest_and_only_those_that_may():
    goal = torch.tensor([1.0, -0.5, 2.0])
    start = torch.zeros(3)
    found = coordinate_ascent(
        start, (-0.5, 0.5, 1.0), lambda each: -float((each - goal).abs().sum()), places=(0, 1, 2), rounds=3
    )
    assert found.tolist() == goal.tolist()
    assert not start.any()
    held = coordinate_ascent(
        start, (1.0,), lambda each: -float((each - goal).abs().sum()), places=(2,), rounds=1
    )
    assert held.tolist() == [0.0, 0.0, 1.0]


def test_a_move_that_wins_too_little_is_not_made():
    found = coordinate_ascent(
        torch.zeros(2), (1.0,), lambda each: 0.1 * float(each.sum()), places=(0, 1), least_gain=0.2
    )
    assert not found.any()
