"""Given regions as logits, and the proposal that each overlaps most, counted pixel by pixel."""

import torch

from lexiseg.ops.given_regions import CERTAIN, best_overlaps, certain_logits


def test_bool_masks_become_certain_and_numbers_stay():
    masks = torch.tensor([[[True, False, True]]])
    assert certain_logits(masks).sigmoid().tolist() == [[[1.0, 0.0, 1.0]]]
    logits = torch.tensor([[[0.5, -3.0]]], dtype=torch.float64)
    assert torch.equal(certain_logits(logits), logits.float())


def naive(given, proposed):
    best = []
    for mine in given > 0:
        ratios = [int((mine & each).sum()) / max(int((mine | each).sum()), 1) for each in proposed > 0]
        best.append(ratios.index(max(ratios)))
    return best


def test_overlaps_by_counting():
    generator = torch.Generator().manual_seed(3)
    given, proposed = torch.randn(7, 5, 11, generator=generator), torch.randn(13, 5, 11, generator=generator)
    assert best_overlaps(given, proposed).tolist() == naive(given, proposed)


def test_a_large_proposal_does_not_win_by_its_size():
    given = torch.full((1, 4, 6), -CERTAIN)
    given[0, :2, :2] = CERTAIN
    everything, close = torch.full((4, 6), CERTAIN), given[0].clone()
    close[2, :2] = CERTAIN  # 4 of 6 pixels shared, against 4 of 24
    assert best_overlaps(given, torch.stack([everything, close])).tolist() == [1]


def test_coarser_proposals_and_a_region_that_none_touches():
    given = torch.full((2, 6, 10), -CERTAIN)
    given[0, :, 5:] = CERTAIN
    proposed = torch.full((3, 3, 5), -CERTAIN)
    proposed[2, :, 3:] = CERTAIN
    assert best_overlaps(given, proposed).tolist() == [2, 0]
