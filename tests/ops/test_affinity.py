"""Affinities by hand, and their behaviour where the published codes divide by zero."""

import torch

from lexiseg.ops.affinity import aggregate, contrasted_scores, cosine_affinity


def test_cosines_ignore_length() -> None:
    tokens = torch.tensor([[[3.0, 4.0], [30.0, 40.0], [-4.0, 3.0]]])
    torch.testing.assert_close(
        cosine_affinity(tokens)[0], torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    )


def test_aggregation_is_a_weighted_mean_above_the_threshold() -> None:
    affinity = torch.tensor([[[1.0, 0.5, 0.3], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]])
    tokens = torch.tensor([[[3.0], [6.0], [100.0]]])
    result = aggregate(affinity, tokens, threshold=0.4)[0, :, 0]
    torch.testing.assert_close(result, torch.tensor([4.0, 5.0, 0.0]), rtol=1e-5, atol=1e-5)
    whole = aggregate(affinity, tokens)[0, 0, 0]
    torch.testing.assert_close(whole, torch.tensor(36.0 / 1.8), rtol=1e-5, atol=1e-5)


def test_contrast_per_image() -> None:
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    second = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    scores = contrasted_scores(torch.stack([first, second]), sharpness=2.0, shift=1.0)
    assert scores[0].tolist() == [[1.0, -torch.inf], [-torch.inf, 1.0]]
    torch.testing.assert_close(scores[1].diagonal(), torch.tensor([0.2, 0.2]))
    assert torch.isinf(scores[1, 0, 1])


def test_one_color_attends_to_all_alike() -> None:
    scores = contrasted_scores(torch.ones(1, 3, 3), sharpness=3.0, shift=1.2)
    assert torch.equal(scores.softmax(dim=-1), torch.full((1, 3, 3), 1 / 3))
