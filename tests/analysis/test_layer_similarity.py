"""CKA between blocks, photograph by photograph, against all patches at once."""

import pytest
import torch

from lexiseg.analysis.layer_similarity import LayerSimilarity
from lexiseg.errors import DataError
from lexiseg.ops.centered_kernel_alignment import linear_cka


def photographs():
    """Three blocks of 7 channels over photographs of 11, 5 and 2 patches, with a common part as CLIP's tokens have."""
    generator = torch.Generator().manual_seed(2)
    for patches in (11, 5, 2):
        first = torch.randn(patches, 7, generator=generator)
        second = first + torch.randn(patches, 7, generator=generator)
        yield [
            tokens + 30 for tokens in (first, second, second + torch.randn(patches, 7, generator=generator))
        ]


def gather(estimator, pictures):
    similarity = LayerSimilarity(estimator)
    for blocks in pictures:
        similarity.update(blocks)
    return similarity.compute()


@pytest.mark.parametrize("estimator", ["unbiased", "plain"])
def test_streamed_equals_all_at_once(estimator):
    found = gather(estimator, photographs())
    blocks = [torch.cat(tokens) for tokens in zip(*photographs(), strict=True)]
    expected = torch.tensor([[linear_cka(a, b, estimator) for b in blocks] for a in blocks])
    assert found.patches == 18
    torch.testing.assert_close(found.matrix, expected.double(), rtol=1e-5, atol=1e-6)
    reversed_order = gather(estimator, reversed(list(photographs())))
    torch.testing.assert_close(reversed_order.matrix, found.matrix, rtol=1e-5, atol=1e-6)


def test_summary_by_hand():
    result = gather("plain", photographs())
    matrix = result.matrix
    assert result.last_to_others == pytest.approx(float(matrix[2, 0] + matrix[2, 1]) / 2)
    assert result.neighbours == pytest.approx(float(matrix[0, 1] + matrix[1, 2]) / 2)
    assert matrix[0, 1] > matrix[0, 2], "the chain drifts away from its first block"
    told = result.to_dict()
    assert told["matrix"][1][2] == float(matrix[1, 2])
    assert told["last_to_others"] == result.last_to_others


def test_memory_does_not_grow_with_photographs():
    similarity = LayerSimilarity()
    similarity.update(next(photographs()))
    before = {pair: sums.cross.numel() for pair, sums in similarity._sums.items()}
    for blocks in photographs():
        similarity.update(blocks)
    assert {pair: sums.cross.numel() for pair, sums in similarity._sums.items()} == before
    assert len(before) == 6


def test_too_few_patches():
    with pytest.raises(DataError, match="0 patches of all photographs together; CKA needs at least 4"):
        LayerSimilarity().compute()
    with pytest.raises(DataError, match="3 patches"):
        gather("plain", [[torch.zeros(3, 2), torch.zeros(3, 2)]])
