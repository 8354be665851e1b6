"""Colour refinement as an injectable part, and votes inside masks by hand."""

import pytest
import torch

from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.refine import PAMR, MaskVote
from lexiseg.ops.pamr import color_affinity, pamr


def test_prepared_refinement_takes_words_in_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, 11, 17, generator=generator)
    logits = torch.randn(1, 7, 11, 17, generator=generator)
    refine = PAMR(steps=4, dilations=[1, 2]).prepare(images)
    parts = torch.cat([refine(part) for part in logits.split(3, dim=1)], dim=1)
    torch.testing.assert_close(parts, pamr(logits, color_affinity(images, [1, 2]), steps=4))


def test_refinement_follows_colors() -> None:
    """A wrong pixel inside one colour takes its colour's class; the border between colours stays."""
    image = torch.zeros(1, 3, 9, 14)
    image[..., 7:] = 1.0
    logits = torch.zeros(1, 2, 9, 14)
    logits[:, 0, :, :7] = 1.0
    logits[:, 1, :, 7:] = 1.0
    expected = logits.argmax(dim=1)
    logits[:, :, 4, 3] = logits[:, [1, 0], 4, 3]
    assert not torch.equal(logits.argmax(dim=1), expected)
    assert torch.equal(PAMR(steps=10, dilations=(1, 2)).prepare(image)(logits).argmax(dim=1), expected)


@pytest.mark.parametrize("settings", [{"steps": -1}, {"dilations": []}, {"dilations": [0]}])
def test_refinement_out_of_range(settings: dict) -> None:
    with pytest.raises(
        ConfigError, match="pamr: expected steps of at least 0 and dilations of at least 1 pixel"
    ):
        PAMR(**settings)


def masks() -> torch.Tensor:
    """A 2×2 corner inside the left half, the left half, and nothing."""
    result = torch.zeros(3, 3, 5, dtype=torch.bool)
    result[0, :2, :2] = True
    result[1, :, :3] = True
    return result


def test_vote_by_labels() -> None:
    labels = torch.tensor([[4, 4, 0, 7, 7], [4, 1, 1, 7, 7], [1, 1, 1, 7, 7]], dtype=torch.uint8)
    voted = MaskVote(masks()).by_labels(labels)
    assert voted.tolist() == [[4, 4, 1, 7, 7], [4, 4, 1, 7, 7], [1, 1, 1, 7, 7]]
    assert voted.dtype == torch.uint8
    assert labels[0, 2] == 0


def test_vote_by_logits_in_parts() -> None:
    logits = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(1))
    vote = MaskVote(masks())
    means = torch.cat([vote.mean_logits(part) for part in logits.split(4)])
    corner, half = logits[:, :2, :2].mean(dim=(1, 2)), logits[:, :, :3].mean(dim=(1, 2))
    torch.testing.assert_close(means, torch.stack([half, corner, torch.zeros(6)], dim=1))
    labels = logits.argmax(dim=0)
    voted = vote.by_logits(labels, logits)
    assert torch.equal(voted[:, 3:], labels[:, 3:])
    assert (voted[:2, :2] == corner.argmax()).all()
    assert (voted[2, :3] == half.argmax()).all()


def test_classes_come_back_in_the_order_of_the_masks() -> None:
    vote = MaskVote(masks())
    assert [int(mask.sum()) for mask in vote.masks] == [9, 4, 0]
    assert vote.as_given(torch.tensor([70, 40, 10])).tolist() == [40, 70, 10]


def test_no_mask_changes_nothing() -> None:
    labels = torch.arange(15).view(3, 5)
    vote = MaskVote(torch.zeros(0, 3, 5, dtype=torch.bool))
    assert torch.equal(vote.by_labels(labels), labels)
    assert torch.equal(vote.by_logits(labels, torch.zeros(2, 3, 5)), labels)


def test_masks_of_another_kind_or_size() -> None:
    with pytest.raises(
        DataError, match=r"expected masks as a \(count, height, width\) boolean tensor, got torch.float32"
    ):
        MaskVote(torch.zeros(2, 3, 5))
    with pytest.raises(DataError, match=r"masks of \(3, 5\) do not fit labels of \(5, 3\)"):
        MaskVote(masks()).by_labels(torch.zeros(5, 3, dtype=torch.int64))
