import math

import pytest
import torch

from lexiseg.losses.region_word_grounding import caption_scores, drop_words, grounding_loss


def test_scores_by_loops():
    regions, words = torch.randn(2, 3, 7), torch.randn(5, 4, 7)
    present = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1]]).bool()
    found = caption_scores(regions, words, present, attention_temperature=0.3)
    assert found.shape == (2, 5)
    for image in range(2):
        for caption in range(5):
            total, count = 0.0, 0
            for word in range(4):
                if not present[caption, word]:
                    continue
                cosines = [
                    float(torch.cosine_similarity(region, words[caption, word], dim=0))
                    for region in regions[image]
                ]
                weights = [math.exp(value / 0.3) for value in cosines]
                total += sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)
                count += 1
            assert float(found[image, caption]) == pytest.approx(total / count, rel=1e-4)


def test_loss_by_loops():
    scores = torch.randn(3, 3)
    rows = [[math.exp(float(value) / 0.2) for value in row] for row in scores]
    total = 0.0
    for index in range(3):
        total -= math.log(rows[index][index] / sum(rows[index]))
        total -= math.log(rows[index][index] / sum(row[index] for row in rows))
    assert float(grounding_loss(scores, temperature=0.2)) == pytest.approx(total / 3, rel=1e-4)


def test_padding_does_not_count():
    regions, words = torch.randn(2, 3, 7), torch.randn(2, 4, 7)
    present = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    longer = torch.cat([words, torch.full((2, 2, 7), 9.0)], dim=1)
    more = torch.cat([present, torch.zeros(2, 2, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(caption_scores(regions, longer, more), caption_scores(regions, words, present))


def test_words_are_dropped_and_one_stays():
    present = torch.ones(400, 5, dtype=torch.bool)
    present[:, 3:] = False
    kept = drop_words(present, 0.5, torch.Generator().manual_seed(3))
    assert not kept[:, 3:].any()
    assert kept.any(1).all()
    # Half of three words, and one where all three were dropped: 1.5 + 1/8.
    assert float(kept.sum(1).float().mean()) == pytest.approx(1.625, abs=0.12)
    assert torch.equal(drop_words(present, 1.0), present)
    only = drop_words(present, 1e-9, torch.Generator().manual_seed(4))
    assert only.sum(1).tolist() == [1] * 400
    assert all(only[:, word].any() for word in range(3)), "which one stays is random"
    assert not drop_words(torch.zeros(2, 3, dtype=torch.bool), 0.5).any()
