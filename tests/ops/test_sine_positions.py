import math

import pytest
import torch
from transformers.models.maskformer.modeling_maskformer import MaskFormerSinePositionEmbedding

from lexiseg.ops.sine_positions import sine_positions


def test_by_hand():
    found = sine_positions(torch.zeros(2, 8, 3, 5))
    assert found.shape == (1, 8, 3, 5)
    row, column = 2 * math.pi * 2 / 3, 2 * math.pi * 5 / 5
    expected = [math.sin(row), math.cos(row), math.sin(row / 100), math.cos(row / 100)]
    expected += [math.sin(column), math.cos(column), math.sin(column / 100), math.cos(column / 100)]
    assert found[0, :, 1, 4].tolist() == pytest.approx(expected, abs=1e-6)


def test_as_everywhere():
    theirs = MaskFormerSinePositionEmbedding(num_position_features=6, normalize=True)
    found = sine_positions(torch.zeros(1, 12, 5, 7))
    expected = theirs((1, 12, 5, 7), found.device, found.dtype)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_type_of_the_map():
    assert sine_positions(torch.zeros(1, 4, 2, 3, dtype=torch.float64)).dtype == torch.float64
