import pytest
import torch

from lexiseg.losses.best_proposal_dice import best_proposal_dice, best_proposals, dice_coefficients


def naive(mask, label):
    both = sum(a * b for a, b in zip(mask.flatten().tolist(), label.flatten().tolist(), strict=True))
    return 2 * both / (float(mask.sum()) + float(label.sum()))


def test_by_loops():
    masks, labels = torch.rand(3, 5, 7), (torch.rand(2, 5, 7) > 0.5).float()
    table = [[naive(mask, label) for label in labels] for mask in masks]
    torch.testing.assert_close(dice_coefficients(masks, labels), torch.tensor(table))
    best = [max(range(3), key=lambda i: table[i][j]) for j in range(2)]
    assert best_proposals(masks, labels).tolist() == best
    expected = sum(1 - table[i][j] for j, i in enumerate(best)) / 2
    assert float(best_proposal_dice(masks[None], [labels])) == pytest.approx(expected, rel=1e-5)


def test_images_without_labels_take_no_part_and_unmatched_proposals_neither():
    masks = torch.rand(2, 3, 5, 7, requires_grad=True)
    label = masks[0, 1].detach().round()[None]
    none = torch.zeros(0, 5, 7)
    alone = best_proposal_dice(masks[:1], [label])
    assert float(best_proposal_dice(masks, [label, none]).detach()) == pytest.approx(float(alone.detach()))
    best_proposal_dice(masks, [label.repeat(2, 1, 1), none]).backward()
    assert masks.grad[0, 1].any(), "two labels may take the same proposal"
    assert not masks.grad[0, ::2].any()
    assert not masks.grad[1].any()
    empty = best_proposal_dice(masks, [none, none])
    empty.backward()
    assert float(empty.detach()) == 0


def test_both_empty():
    assert dice_coefficients(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)).tolist() == [[0.0]]
