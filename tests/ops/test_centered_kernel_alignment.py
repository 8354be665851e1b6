"""CKA against the n×n kernels it stands for, by hand, and its invariances."""

import pytest
import torch

from lexiseg.ops.centered_kernel_alignment import alignment, hsic, linear_cka, pair_sums

ESTIMATORS = ("unbiased", "plain")


def naive_hsic(x, y, estimator):
    """From the kernels, term by term as the papers write it."""
    n = len(x)
    first, second = x @ x.T, y @ y.T
    if estimator == "plain":
        centring = torch.eye(n, dtype=x.dtype) - 1 / n
        return (first @ centring @ second @ centring).trace() / (n - 1) ** 2
    first, second = first - first.diag().diag(), second - second.diag().diag()
    ones = torch.ones(n, dtype=x.dtype)
    product = first @ second
    total = (ones @ first @ ones) * (ones @ second @ ones) / ((n - 1) * (n - 2))
    return (product.trace() + total - 2 / (n - 2) * (ones @ product @ ones)) / (n * (n - 3))


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(23, 7, generator=generator, dtype=torch.float64) + 2
    mix = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    y = x @ mix + torch.randn(23, 5, generator=generator, dtype=torch.float64)
    return x, y


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_against_the_kernels(features, estimator):
    x, y = features
    torch.testing.assert_close(hsic(pair_sums(x, y), estimator), naive_hsic(x, y, estimator))
    expected = (
        naive_hsic(x, y, estimator) / (naive_hsic(x, x, estimator) * naive_hsic(y, y, estimator)).sqrt()
    )
    torch.testing.assert_close(linear_cka(x, y, estimator), expected)


def test_by_hand():
    """x = ±1 and y = (1, 0, 0, -1), both of mean 0: Σxy = 2, Σx² = 4, Σy² = 2, so 2² / (4 · 2)."""
    x, y = torch.tensor([[1.0], [1], [-1], [-1]]), torch.tensor([[1.0], [0], [0], [-1]])
    torch.testing.assert_close(hsic(pair_sums(x, y), "plain"), torch.tensor(4 / 9, dtype=torch.float64))
    torch.testing.assert_close(linear_cka(x, y, "plain"), torch.tensor(0.5, dtype=torch.float64))
    # Without the diagonal: tr 2² - Σx²y² = 2, 1ᵀK̃1 = 0 - 4, 1ᵀL̃1 = 0 - 2, 1ᵀK̃L̃1 = Σx²y² = 2.
    expected = torch.tensor((2 + 8 / 6 - 2 * 2 / 2) / 4, dtype=torch.float64)
    torch.testing.assert_close(hsic(pair_sums(x, y), "unbiased"), expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_invariances(features, estimator):
    x, y = features
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(5)).double()).Q
    one = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(linear_cka(x, x, estimator), one)
    torch.testing.assert_close(linear_cka(x, 3 * x @ rotation - 11, estimator), one)
    torch.testing.assert_close(linear_cka(3 * x @ rotation - 11, y, estimator), linear_cka(x, y, estimator))
    torch.testing.assert_close(linear_cka(y, x, estimator), linear_cka(x, y, estimator))
    stretched = x * torch.arange(1, 8)
    assert linear_cka(x, stretched, estimator) < 0.95, "only one common scale is free"


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_few_at_a_time_is_all_at_once(features, estimator):
    x, y = features
    parts = [slice(0, 2), slice(2, 13), slice(13, 23)]

    def streamed(a, b):
        first, *rest = (pair_sums(a[part], b[part]) for part in parts)
        for sums in rest:
            first = first + sums
        return hsic(first, estimator)

    torch.testing.assert_close(
        alignment(streamed(x, y), streamed(x, x), streamed(y, y)), linear_cka(x, y, estimator)
    )


def test_only_the_unbiased_one_sees_that_noise_has_nothing_in_common():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 90, generator=generator) for _ in range(2))
    assert linear_cka(x, y, "plain") > 0.6
    assert abs(linear_cka(x, y)) < 0.1


def test_features_that_do_not_vary():
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    for estimator in ESTIMATORS:
        assert torch.isnan(linear_cka(x, torch.full((9, 2), 4.0), estimator))


def test_refusals():
    with pytest.raises(ValueError, match="5 and 6 examples"):
        pair_sums(torch.zeros(5, 2), torch.zeros(6, 2))
    with pytest.raises(ValueError, match="3 examples; expected at least 4"):
        hsic(pair_sums(torch.zeros(3, 2), torch.zeros(3, 2)))
