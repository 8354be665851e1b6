"""Fusing a view and its mirror image, by hand."""

import math

import pytest
import torch

from lexiseg.ops.view_fusion import fuse_pair, running_entropy, word_entropy

SURE = torch.tensor([40.0, 0.0, 0.0]).view(1, 3, 1)
EVEN = torch.tensor([1.0, 1.0, 1.0]).view(1, 3, 1)


def test_mean_and_maximum() -> None:
    assert fuse_pair(SURE, EVEN, "mean").flatten().tolist() == [20.5, 0.5, 0.5]
    assert fuse_pair(SURE, EVEN, "maximum").flatten().tolist() == [40.0, 1.0, 1.0]


def test_entropy_of_sure_even_and_half() -> None:
    assert word_entropy(SURE).item() == pytest.approx(0, abs=1e-6)
    assert word_entropy(EVEN).item() == pytest.approx(1)
    half = torch.tensor([7.0, 7.0, -50.0]).view(1, 3, 1)
    assert word_entropy(half).item() == pytest.approx(math.log(2) / math.log(3))
    assert word_entropy(half[:, :1]).item() == 0


def test_entropy_of_words_in_parts() -> None:
    logits = 9 * torch.randn(2, 17, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(running_entropy(logits.split(5, dim=1)), word_entropy(logits))
    probabilities = logits.softmax(dim=1)
    expected = -(probabilities * probabilities.log()).sum(dim=1, keepdim=True) / math.log(17)
    torch.testing.assert_close(word_entropy(logits), expected, rtol=1e-4, atol=1e-5)


def test_entropy_weighs_views() -> None:
    entropies = [word_entropy(SURE), word_entropy(EVEN)]
    share = 1 / (1 + math.exp(-1))
    fused = fuse_pair(SURE, EVEN, "entropy", entropies=entropies)
    torch.testing.assert_close(fused, share * SURE + (1 - share) * EVEN)


def test_only_uncertain_pixels_take_the_mirror() -> None:
    plain, mirrored = torch.cat([SURE, EVEN], dim=2), torch.cat([EVEN, SURE], dim=2)
    entropies = [word_entropy(plain), word_entropy(mirrored)]
    fused = fuse_pair(plain, mirrored, "mean", entropies=entropies, uncertain_above=0.5)
    assert torch.equal(fused[..., 0], SURE[..., 0])
    assert torch.equal(fused[..., 1], ((SURE + EVEN) / 2)[..., 0])


def test_missing_entropies() -> None:
    with pytest.raises(ValueError, match="needs the entropies of both views"):
        fuse_pair(SURE, EVEN, "entropy")
