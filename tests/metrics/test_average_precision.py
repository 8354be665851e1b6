"""COCO's average precision, by hand and against its loops written out."""

import numpy as np
import pytest
import torch

from lexiseg.metrics.average_precision import (
    HIT,
    IGNORED,
    IOU_THRESHOLDS,
    MISS,
    average_precision,
    match_masks,
)

HALF = torch.tensor([0.5], dtype=torch.double)


def test_the_thresholds_are_cocos():
    assert np.linspace(0.5, 0.95, 10).tolist() == list(IOU_THRESHOLDS)  # to the last digit


def test_the_best_scored_chooses_first_and_each_is_chosen_once():
    iou = torch.tensor([[0.6, 0.7], [0.1, 0.9], [0.55, 0.2]])
    found = match_masks(iou, torch.tensor([False, False]), torch.tensor([0.5, 0.65]))
    assert found.tolist() == [[HIT, HIT], [MISS, MISS], [HIT, MISS]]


def test_a_crowd_takes_what_no_true_mask_takes_and_any_number():
    iou = torch.tensor([[0.9, 0.8], [0.1, 0.6], [0.0, 0.5], [0.0, 0.4]])
    found = match_masks(iou, torch.tensor([True, False]), HALF)
    assert found[:, 0].tolist() == [HIT, MISS, MISS, MISS]
    found = match_masks(iou.flip(1), torch.tensor([True, False]), HALF)
    assert found[:, 0].tolist() == [HIT, IGNORED, IGNORED, MISS]


def test_no_true_mask_and_no_found_one():
    assert match_masks(torch.zeros(2, 0), torch.zeros(0, dtype=torch.bool), HALF).tolist() == [[MISS], [MISS]]
    empty = match_masks(torch.zeros(0, 3), torch.zeros(3, dtype=torch.bool), HALF)
    assert average_precision(torch.zeros(0), empty, 3).tolist() == [0.0]


def test_precision_by_hand():
    found = torch.tensor([[HIT], [MISS], [HIT], [IGNORED]], dtype=torch.uint8)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95])
    # Recalls up to 1/2 (51 points) at precision 1, up to 1 (50 points) at 2/3.
    assert average_precision(scores, found, 2).item() == pytest.approx((51 + 50 * 2 / 3) / 101)
    # Of four: up to 1/4 (26 points) at 1, up to 1/2 (25 points) at 2/3, the rest never.
    assert average_precision(scores, found, 4).item() == pytest.approx((26 + 25 * 2 / 3) / 101)


def test_the_recalls_are_cocos_to_the_last_digit():
    """COCO's 0.7 is a hair above 7/10, so seven of ten true masks reach 70 of the 101 recalls."""
    found = torch.full((7, 1), HIT, dtype=torch.uint8)
    assert average_precision(torch.ones(7), found, 10).item() == pytest.approx(70 / 101)


def naive(scores, found, positives):
    """COCO's ``accumulate`` for one class and threshold, one found mask after the other."""
    order = np.argsort([-score for score in scores], kind="stable")
    hits = misses = 0
    points = []
    for index in order:
        hits += found[index] == HIT
        misses += found[index] == MISS
        points.append((hits / positives, hits / (hits + misses) if hits + misses else 0.0))
    total = 0.0
    for wanted in np.linspace(0, 1, 101):
        total += max((precision for recall, precision in points if recall >= wanted), default=0.0)
    return total / 101


@pytest.mark.parametrize("seed", range(5))
def test_precision_against_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(17, generator=generator).mul(8).round() / 8  # some are equal
    found = torch.randint(0, 3, (17, 5), generator=generator, dtype=torch.uint8)
    ours = average_precision(scores, found, 19)
    for column in range(5):
        assert ours[column].item() == pytest.approx(naive(scores.tolist(), found[:, column].tolist(), 19))
