"""Regions named by their embedding: cosines one by one, and what is done with the vector of "nothing"."""

import math

import pytest
import torch

from lexiseg.models.region_classifiers.segment_embedding import SegmentEmbedding

WIDTH, EMBED, WORDS = 7, 11, 3


def classifier(**choices):
    torch.manual_seed(0)
    model = SegmentEmbedding(WIDTH, EMBED, **choices)
    with torch.no_grad():
        model.background.mul_(3)
    return model


@pytest.mark.parametrize("background", ["free", "unit"])
@pytest.mark.parametrize("hidden", [0, 13])
def test_cosines_one_by_one(background, hidden):
    model = classifier(background=background, hidden=hidden)
    embeddings = torch.randn(2, 5, WIDTH)
    text = torch.nn.functional.normalize(torch.randn(WORDS, EMBED), dim=-1)
    logits = model(embeddings, text)
    assert logits.shape == (2, 5, WORDS + 1)
    for b in range(2):
        for n in range(5):
            x = embeddings[b, n]
            if hidden:
                first, _, second = model.projection
                x = second.weight @ (first.weight @ x + first.bias).relu() + second.bias
            else:
                x = model.projection.weight @ x + model.projection.bias
            x = x / x.norm()
            nothing = model.background[0]
            if background == "unit":
                nothing = nothing / nothing.norm()
            expected = [100 * x @ row for row in (*text, nothing)]
            torch.testing.assert_close(logits[b, n], torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_starts():
    torch.manual_seed(1)
    free, unit = SegmentEmbedding(WIDTH, 4096), SegmentEmbedding(WIDTH, 4096, background="unit")
    bound = 1 / math.sqrt(4096)
    assert free.background.abs().max() <= bound
    assert free.background.norm().item() == pytest.approx(1 / math.sqrt(3), rel=0.05)
    assert unit.background.norm().item() == pytest.approx(1, rel=0.05)
    assert unit.background.abs().max() > 2 * bound


def test_the_length_of_nothing_matters_only_where_it_is_free():
    for background, matters in (("free", True), ("unit", False)):
        model = classifier(background=background)
        embeddings, text = torch.randn(1, 5, WIDTH), torch.eye(EMBED)[:WORDS]
        before = model(embeddings, text)
        with torch.no_grad():
            model.background.mul_(2)
        after = model(embeddings, text)
        torch.testing.assert_close(after[..., :-1], before[..., :-1])
        assert torch.allclose(after[..., -1], before[..., -1], rtol=1e-4) != matters
