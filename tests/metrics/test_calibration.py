"""Reliability and the expected calibration error."""

import math

import pytest
import torch

from lexiseg.metrics.calibration import Reliability


def test_the_error_is_the_gap_weighted_by_pixels():
    confidence = torch.tensor([[0.9, 0.9, 0.9], [0.9, 0.2, 1.0]])
    correct = torch.tensor([[True, True, False], [False, False, True]])
    found = Reliability.of(confidence, correct, bins=5)
    assert found.counts.tolist() == [0, 1, 0, 0, 5]  # 1.0 is in the last
    # bins 0.2 to 0.4 and 0.8 to 1: |0.2 - 0| * 1/6 + |4.6/5 - 3/5| * 5/6
    assert found.error == pytest.approx((0.2 + 1.6) / 6)
    pixels, mean, right = found.rows()[4]
    assert pixels == 5
    assert mean == pytest.approx(0.92)
    assert right == pytest.approx(0.6)
    assert math.isnan(found.rows()[0][1])


def test_photographs_add_up_to_all_their_pixels():
    torch.manual_seed(0)
    sure, right = torch.rand(7, 11), torch.rand(7, 11) < 0.4
    both = Reliability.of(sure[:3], right[:3]) + Reliability.of(sure[3:], right[3:])
    assert both.error == pytest.approx(Reliability.of(sure, right).error)
    assert math.isnan(Reliability.of(sure[:0], right[:0]).error)
