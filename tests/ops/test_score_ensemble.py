import torch

from lexiseg.ops.score_ensemble import append_nothing, geometric_ensemble, renormalised


def logits(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_normalised_geometric_mean() -> None:
    inside, outside = logits(1), logits(2)
    share = torch.tensor([0.4, 0.8, 0.8, 0.4, 0.0], dtype=torch.float64)
    product = inside.softmax(-1) ** (1 - share) * outside.softmax(-1) ** share
    torch.testing.assert_close(
        geometric_ensemble(inside, outside, share), product / product.sum(-1, keepdim=True)
    )


def test_probabilities_that_underflow_are_no_trouble() -> None:
    """In float32 exp(-200) is 0, and 0 · -∞ is no number."""
    inside, outside = torch.tensor([[0.0, -400.0, 300.0]]), torch.tensor([[0.0, 0.0, -400.0]])
    found = geometric_ensemble(inside, outside, torch.tensor([0.4, 0.8, 0.8]))
    exact = geometric_ensemble(inside.double(), outside.double(), torch.tensor([0.4, 0.8, 0.8]).double())
    torch.testing.assert_close(found, exact.float())
    assert found.isfinite().all()


def test_without_a_share_the_frozen_classifier_is_not_read() -> None:
    inside, outside = logits(3), logits(4)
    outside[:, 1] = torch.nan
    share = torch.full((2, 3, 1), 0.4, dtype=torch.float64)
    share[:, 1] = 0
    found = geometric_ensemble(inside, outside, share)
    torch.testing.assert_close(found[:, 1], inside[:, 1].softmax(-1))
    assert found.isfinite().all()


def test_the_rest_of_nothing_is_shared_out() -> None:
    scores, nothing = logits(5).softmax(-1), torch.rand(2, 3, generator=torch.Generator().manual_seed(6))
    whole = append_nothing(scores, nothing.double())
    assert whole.shape == (2, 3, 6)
    torch.testing.assert_close(whole.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    torch.testing.assert_close(whole[..., -1], nothing.double())
    torch.testing.assert_close(whole[..., :-1] / (1 - whole[..., -1:]), scores)


def test_the_second_soft_max_renormalises_probability_plus_a_floor() -> None:
    scores = append_nothing(logits(7).softmax(-1), torch.tensor(0.25, dtype=torch.float64).expand(2, 3))
    scores[0, 0] = torch.tensor([1.0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(renormalised(scores), (scores + 1e-8).log().softmax(-1))
    assert (renormalised(scores)[0, 0, 1:] > 0).all()
