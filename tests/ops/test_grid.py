"""Patch grids: what a program traced for any grid does instead of asking gives the same bits."""

import pytest
import torch

from lexiseg.ops.grid import pad_to_windows, resize_position_embedding


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(("size", "padded"), [((5, 7), (6, 9)), ((3, 6), (3, 6)), ((1, 2), (3, 3))])
def test_zeros_below_and_right_up_to_whole_windows(monkeypatch, size, padded, traced):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: traced)
    maps = torch.randn(2, 5, *size)
    out = pad_to_windows(maps, 3)
    assert out.shape[2:] == padded
    assert torch.equal(out[:, :, : size[0], : size[1]], maps)
    assert out.abs().sum() == pytest.approx(float(maps.abs().sum()), rel=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "bicubic_antialias"])
def test_position_rows_resized_to_their_own_grid_stay_as_they_are(monkeypatch, mode):
    rows = torch.randn(1 + 7 * 7, 5)
    assert resize_position_embedding(rows, (7, 7), mode) is rows
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    resized = resize_position_embedding(rows, (7, 7), mode)
    assert resized is not rows
    assert torch.equal(resized, rows)
