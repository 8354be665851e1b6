"""Attention cut to like pairs: by hand, and against the plain way."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.guided_aggregation import guided_weights, likeness_thresholds, spread


def some(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("factor", "keep"), [(1.2, True), (3.0, False), (0.0, True), (-0.5, False), (9.0, True)]
)
def test_against_loops_over_heads_queries_and_keys(factor: float, keep: bool) -> None:
    heads, count = 3, 7
    values, attention = some(heads, count, 5, seed=1), some(heads, count, count, seed=2).softmax(dim=-1)
    expected = torch.zeros(count, count)
    for query in range(count):
        cosines = torch.stack(
            [F.cosine_similarity(values[h, query], values[h], dim=-1) for h in range(heads)]
        )
        threshold = factor * cosines.mean()
        if not keep and threshold < 0:
            threshold = torch.tensor(0.6)
        threshold = threshold.clamp(max=0.9)
        row = sum(torch.where(cosines[h] > threshold, attention[h, query], 0.0) for h in range(heads))
        expected[query] = row / row.sum()
        assert likeness_thresholds(values, factor=factor, keep_negative=keep)[query] == pytest.approx(
            float(threshold), abs=1e-6
        )
    found = guided_weights(iter(attention), values, factor=factor, keep_negative=keep)
    torch.testing.assert_close(found, expected)


def test_who_is_like_nobody_attends_to_itself() -> None:
    values = torch.eye(3)[None]
    weights = guided_weights(torch.full((1, 3, 3), 0.25), values, factor=3.0)
    torch.testing.assert_close(weights, torch.eye(3))


def test_spreading_on_the_own_grid_is_one_product() -> None:
    features, weights = some(2, 3, 5, seed=3), some(15, 15, seed=4).softmax(dim=-1)
    expected = torch.einsum("nm,dm->dn", weights, features.flatten(1)).view(2, 3, 5)
    torch.testing.assert_close(spread(features, [weights], (3, 5)), expected)


def test_pieces_are_cut_before_they_are_resized_and_do_not_mix() -> None:
    features = some(2, 3, 11, seed=5)
    pieces = [some(35, 35, seed=seed).softmax(dim=-1) for seed in (6, 7)]
    found = spread(features, pieces, (5, 7))
    assert found.shape == (2, 5, 14)
    for piece, of_piece, part in zip(
        (features[..., :5], features[..., 5:]), pieces, found.split(7, dim=2), strict=True
    ):
        torch.testing.assert_close(part, spread(piece, [of_piece], (5, 7)))
    other = features.clone()
    other[..., 5:] = 0
    assert torch.equal(spread(other, pieces, (5, 7))[..., :7], found[..., :7])
