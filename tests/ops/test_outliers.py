"""Outliers against a plain second implementation, and their repair by hand."""

import torch

from lexiseg.ops.outliers import find_outliers, local_outlier_factor, repair_outliers


def plain_factor(points: torch.Tensor, k: int) -> list[float]:
    distances = [[float(((a - b) ** 2).sum()) for b in points] for a in points]
    nearest = [
        sorted((j for j in range(len(points)) if j != i), key=distances[i].__getitem__)[:k]
        for i in range(len(points))
    ]
    reach = [distances[i][nearest[i][-1]] for i in range(len(points))]
    return [sum(1 / reach[j] for j in nearest[i]) / k * reach[i] for i in range(len(points))]


def test_factor_equals_plain_loops_per_image() -> None:
    tokens = torch.randn(2, 13, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 7
    factors = local_outlier_factor(tokens, neighbors=4)
    for image in range(2):
        expected = torch.tensor(plain_factor(tokens[image], 4))
        torch.testing.assert_close(factors[image], expected, rtol=1e-4, atol=1e-4)


def test_far_token_is_the_outlier() -> None:
    tokens = torch.randn(1, 40, 3, generator=torch.Generator().manual_seed(0))
    tokens[0, 17] += 20
    assert find_outliers(tokens)[0, 17]
    assert local_outlier_factor(tokens)[0].argmax() == 17


def test_ten_of_196_by_default() -> None:
    tokens = torch.randn(2, 196, 8, generator=torch.Generator().manual_seed(1))
    assert find_outliers(tokens).sum(dim=1).tolist() == [10, 10]


def test_equal_tokens_and_single_tokens_have_no_outlier() -> None:
    assert not find_outliers(torch.ones(1, 9, 4)).any()
    assert not find_outliers(torch.ones(1, 1, 4)).any()


def test_repair_by_hand() -> None:
    grid = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 60.0, 70.0, 8.0], [9.0, 10.0, 11.0, 12.0]])
    outliers = torch.zeros(1, 12, dtype=torch.bool)
    outliers[0, [5, 6]] = True
    repaired = repair_outliers(grid.flatten()[None, :, None], outliers, (3, 4))[0, :, 0].unflatten(0, (3, 4))
    expected = torch.tensor((1 + 2 + 3 + 5 + 9 + 10 + 11) / 7)  # its eighth neighbour is an outlier too
    torch.testing.assert_close(repaired[1, 1], expected)
    expected = torch.tensor((2 + 3 + 4 + 8 + 10 + 11 + 12) / 7)
    torch.testing.assert_close(repaired[1, 2], expected)
    assert torch.equal(repaired[0], grid[0])


def test_outlier_among_outliers_keeps_its_value() -> None:
    tokens = torch.arange(4.0).view(1, 4, 1)
    assert torch.equal(repair_outliers(tokens, torch.ones(1, 4, dtype=torch.bool), (2, 2)), tokens)
