"""A number has the same bits, whatever is computed beside it."""

import pytest
import torch

from lexiseg.ops.steady import steady_product, steady_sigmoid_


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("summed", [2, 3, 7, 43])
def test_a_product_of_few_rows_and_columns_is_part_of_a_larger_one(summed):
    left, right = noise(211, summed), noise(summed, 173) * 9
    whole = steady_product(left, right)
    torch.testing.assert_close(whole, left @ right)
    for rows in (1, 2, 3, 5, 7, 11, 13, 17, 53, 211):
        for columns in (1, 2, 3, 5, 11, 13, 17, 19, 173):
            part = steady_product(left[:rows], right[:, :columns])
            assert torch.equal(part, whole[:rows, :columns])
            picked = torch.arange(columns) * 173 // columns
            assert torch.equal(steady_product(left[-rows:], right[:, picked]), whole[-rows:, picked])


def test_zeros_along_the_summed_axis_change_nothing():
    left, right = noise(23, 5), noise(5, 29)
    padded = torch.nn.functional.pad(left, (3, 2)), torch.nn.functional.pad(right, (0, 0, 3, 2))
    assert torch.equal(steady_product(*padded), steady_product(left, right))


@pytest.mark.parametrize("left_out", [1, 97, 130, 201])
def test_a_long_sum_is_the_same_wherever_it_begins(left_out):
    # Rows of two numbers side by side, as in interpolation; the library's own cuts lie elsewhere in the shorter sum.
    weights, right = torch.zeros(599, 601), noise(601, 29)
    weights.diagonal().copy_(noise(599))
    weights.diagonal(1).copy_(noise(600)[1:])
    whole = steady_product(weights, right)
    torch.testing.assert_close(whole, weights @ right)
    part = steady_product(weights[left_out:, left_out:], right[left_out:], start=left_out)
    assert torch.equal(part, whole[left_out:])
    across = steady_product(right.T, weights.T)
    part = steady_product(right.T[:, left_out:], weights.T[left_out:, left_out:], start=left_out)
    assert torch.equal(part, across[:, left_out:])


def test_a_sigmoid_is_that_of_a_longer_tensor():
    logits = noise(401) * 20
    whole = steady_sigmoid_(logits.clone())
    torch.testing.assert_close(whole, logits.sigmoid())
    for count in range(1, 100):
        assert torch.equal(steady_sigmoid_(logits[:count].clone()), whole[:count])
    extremes = steady_sigmoid_(torch.tensor([-torch.inf, -500.0, 0.0, 500.0, torch.inf]))
    assert extremes.tolist() == [0, 0, 0.5, 1, 1]
