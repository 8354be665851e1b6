"""Both forms of text-guided recalibration against equations 9 to 13, word by word."""

import math

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops import recalibration as module
from lexiseg.ops.recalibration import recalibrate_features, recalibrate_logits


def example(words: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    features = F.normalize(torch.randn(2, 11, 13, generator=generator, dtype=torch.float64), dim=1)
    return features, F.normalize(torch.randn(words, 11, generator=generator, dtype=torch.float64), dim=1)


def plain(feature: torch.Tensor, text: torch.Tensor, strength: float, temperature: float) -> torch.Tensor:
    scores = [math.exp(float(feature @ word) / temperature) for word in text]
    pull = sum(score / sum(scores) * word for score, word in zip(scores, text, strict=True))
    moved = feature + strength * pull
    return moved / moved.norm()


@pytest.mark.parametrize(("strength", "temperature"), [(0.1, 2.0), (0.7, 0.05), (5.0, 0.01)])
def test_both_forms_equal_the_equations(strength: float, temperature: float) -> None:
    features, text = example()
    settings = {"strength": strength, "temperature": temperature}
    moved = recalibrate_features(features, text, **settings)
    from_logits = recalibrate_logits(text @ features, text @ text.T, **settings)
    for image in range(2):
        for patch in (0, 6, 12):
            expected = plain(features[image, :, patch], text, strength, temperature)
            torch.testing.assert_close(moved[image, :, patch], expected)
            torch.testing.assert_close(from_logits[image, :, patch], text @ expected)


def test_words_in_chunks_give_the_same(monkeypatch) -> None:
    features, text = example(words=23)
    whole = recalibrate_features(features, text, strength=0.4, temperature=0.1)
    monkeypatch.setattr(module, "_WORDS_AT_ONCE", 5)
    torch.testing.assert_close(recalibrate_features(features, text, strength=0.4, temperature=0.1), whole)


def test_a_strength_per_patch() -> None:
    features, text = example()
    strengths = torch.linspace(0, 1, 13, dtype=torch.float64).expand(2, 1, 13)
    moved = recalibrate_features(features, text, strength=strengths, temperature=2.0)
    torch.testing.assert_close(moved[..., 0], features[..., 0])
    alone = recalibrate_features(features[..., 12:], text, strength=1.0, temperature=2.0)
    torch.testing.assert_close(moved[..., 12:], alone)
    logits = recalibrate_logits(text @ features, text @ text.T, strength=strengths, temperature=2.0)
    torch.testing.assert_close(logits, text @ moved)


def test_results_stay_cosines() -> None:
    features, text = example()
    moved = recalibrate_features(features, text, strength=3.0, temperature=0.02)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(2, 13, dtype=torch.float64))
    assert (
        recalibrate_logits(text @ features, text @ text.T, strength=3.0, temperature=0.02).abs().max()
        <= 1 + 1e-9
    )


def test_a_patch_and_a_word_that_cancel_give_numbers() -> None:
    text = torch.tensor([[1.0, 0.0]])
    logits = recalibrate_logits(torch.full((1, 1, 1), -1.0), text @ text.T, strength=1.0, temperature=2.0)
    assert torch.isfinite(logits).all()
