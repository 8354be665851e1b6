"""Attention readings against plain loops, and the two spatial priors by hand."""

import math

import pytest
import torch

from lexiseg.ops.attention import attend, attention_map, neighborhood_bias, patch_offsets, window_mask


def test_attend_equals_its_map_and_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 5, 4, generator=generator)
    key = torch.randn(2, 3, 7, 4, generator=generator)
    value = torch.randn(2, 3, 7, 4, generator=generator)
    bias = torch.randn(5, 7, generator=generator)
    mixed = attend(query, key, value, bias=bias, scale=0.3)
    torch.testing.assert_close(mixed, attention_map(query, key, bias=bias, scale=0.3) @ value)
    weights = [math.exp(0.3 * float(query[1, 2, 4] @ key[1, 2, j]) + float(bias[4, j])) for j in range(7)]
    expected = sum(w * value[1, 2, j] for j, w in enumerate(weights)) / sum(weights)
    torch.testing.assert_close(mixed[1, 2, 4], expected)


def test_default_scale_is_the_head_width() -> None:
    query, key, value = torch.randn(3, 1, 1, 5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attend(query, key, value), attention_map(query, key, scale=0.25) @ value)


def test_offsets_by_hand() -> None:
    rows, columns = patch_offsets((2, 3))
    assert rows[1].tolist() == [0, 0, 0, 1, 1, 1]
    assert columns[5].tolist() == [2, 1, 0, 2, 1, 0]


def test_neighborhood_by_hand() -> None:
    bias = neighborhood_bias((2, 3), sigma=2.0)
    assert bias.shape == (7, 7)
    assert not bias[0].any()
    assert not bias[:, 0].any()
    assert bias[1, 1] == 1
    assert bias[1, 6].item() == pytest.approx(math.exp(-(1 + 4) / 8))
    with pytest.raises(ValueError, match="sigma above 0"):
        neighborhood_bias((2, 3), sigma=0)


def test_window_by_hand() -> None:
    allowed = window_mask((3, 5), side=3)
    assert allowed.shape == (15, 16)
    assert not allowed[:, 0].any()
    corner = [1 + 0, 1 + 1, 1 + 5, 1 + 6]
    assert allowed[0].nonzero().flatten().tolist() == corner
    assert allowed[7].sum() == 9
    with pytest.raises(ValueError, match="odd window side"):
        window_mask((3, 5), side=2)
