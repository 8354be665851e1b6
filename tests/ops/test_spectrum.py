"""Filters in the frequency domain, on grids other than their own."""

import math

import pytest
import torch

from lexiseg.ops.gaussian import gaussian_window
from lexiseg.ops.spectrum import filter_map, filter_map_by_products, resample_response


def test_a_response_on_its_own_grid_is_untouched():
    response = torch.randn(6, 4, 2, dtype=torch.complex64)
    assert resample_response(response, (6, 6)) is response


def test_a_response_is_read_at_the_other_grids_frequencies():
    """Linear between stored rows, around the period; linear between stored columns, up to one half."""
    rows, columns = torch.tensor([0.0, 1.0, 5.0, 3.0]), torch.tensor([0.0, 10.0, 20.0])
    response = (rows[:, None] + 1j * columns)[..., None]
    out = resample_response(response, (8, 8))[..., 0]
    assert out.real[:, 0].tolist() == [0.0, 0.5, 1.0, 3.0, 5.0, 4.0, 3.0, 1.5]
    assert out.imag[0].tolist() == [0.0, 5.0, 10.0, 15.0, 20.0]
    assert resample_response(response, (3, 7)).shape == (3, 4, 1)


def test_a_shift_stays_a_shift():
    """The response exp(-2 pi i k / n) moves every row down by one."""
    patches = torch.randn(2, 5, 4, 3)
    turn = torch.exp(torch.tensor(-2j * math.pi) * torch.arange(5) / 5).view(5, 1, 1)
    torch.testing.assert_close(
        filter_map(patches, turn.expand(5, 3, 3)), patches.roll(1, 1), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (4, 6), (3, 2)])
def test_by_products_as_by_transforms(size):
    """Odd and even sides; the parts of the response that a real map cannot have count in neither."""
    patches = torch.randn(2, *size, 3)
    response = torch.randn(size[0], size[1] // 2 + 1, 3, dtype=torch.complex64)
    torch.testing.assert_close(
        filter_map_by_products(patches, response), filter_map(patches, response), rtol=1e-5, atol=1e-5
    )


def test_gaussian_window_by_hand():
    side = math.exp(-0.5 / 1.5**2)
    expected = torch.tensor([side, 1.0, side]) / (1 + 2 * side)
    torch.testing.assert_close(gaussian_window(3, 1.5), expected)
