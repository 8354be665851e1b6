"""The traced form of adaptive max pooling is the same as torch's."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.window_max import axis_max, window_max


@pytest.mark.parametrize("length", range(1, 12))
@pytest.mark.parametrize("size", range(1, 12))
def test_every_ratio(length, size):
    torch.manual_seed(0)
    maps = torch.randn(2, 3, length, 5)
    assert torch.equal(axis_max(maps, size, 2), F.adaptive_max_pool2d(maps, (size, 5)))


def test_both_axes_and_as_traced(monkeypatch):
    maps = torch.randn(2, 3, 7, 11)
    expected = F.adaptive_max_pool2d(maps, (3, 13))
    assert torch.equal(window_max(maps, (3, 13)), expected)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(window_max(maps, (3, 13)), expected)
