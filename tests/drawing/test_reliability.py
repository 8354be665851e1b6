"""A reliability diagram shows how high accuracy is in each bin."""

import numpy as np
import pytest

from lexiseg.drawing.reliability import _BAR, reliability_diagram

NAN = float("nan")


def blue(bins):
    return (np.asarray(reliability_diagram({"after": bins})) == _BAR).all(-1)


def test_a_bar_is_as_high_as_its_bin_is_right_and_stands_where_its_confidence_is():
    low = blue([(5, 0.3, 0.25), (0, NAN, NAN)])
    high = blue([(5, 0.3, 0.75), (0, NAN, NAN)])
    assert 2.5 < high.sum() / low.sum() < 3.5
    right = blue([(0, NAN, NAN), (5, 0.8, 0.75)])
    assert np.nonzero(right)[1].mean() > np.nonzero(high)[1].mean() + 100
    assert not blue([(0, NAN, NAN), (0, NAN, NAN)]).any()


def test_readings_stand_side_by_side():
    one = reliability_diagram({"before": [(1, 0.5, 0.5)]})
    two = reliability_diagram({"before": [(1, 0.5, 0.5)], "after": [(1, 0.5, 0.5)]})
    assert two.width > 1.8 * one.width
    with pytest.raises(ValueError, match="expected one title per picture"):
        reliability_diagram({})
