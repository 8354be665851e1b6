"""Regions, prompts and scores by hand."""

from dataclasses import replace

import pytest
import torch

from lexiseg.ops.prompted_refinement import (
    Redrawn,
    RefinementSettings,
    class_scores,
    connected_regions,
    prompts_for,
    redraw,
    regions_to_ask,
    settle,
)

SETTINGS = RefinementSettings(threshold=0.3, min_area=3)


def test_regions_hang_together_by_corners_and_small_ones_are_left_out() -> None:
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[0, 0] = mask[1, 1] = mask[1, 2] = True  # one piece, by a corner
    mask[4, 6] = mask[3, 6] = True  # too small
    mask[3:5, 0:2] = True
    probability = torch.zeros(5, 7)
    probability[1, 1] = probability[1, 2] = 0.7
    probability[0, 5] = 0.9  # outside
    probability[4, 1] = 0.4
    regions = connected_regions(mask, probability, 3)
    assert len(regions) == 2
    assert regions.boxes.tolist() == [[0, 0, 2, 1], [0, 3, 1, 4]]
    assert regions.points.tolist() == [[1, 1], [1, 4]]
    assert regions.masks.flatten(1).sum(dim=1).tolist() == [3, 4]


def two_classes() -> tuple[torch.Tensor, torch.Tensor]:
    """Labels 10×14, left half class 1, right half class 0, and probabilities of three classes."""
    labels = torch.zeros(10, 14, dtype=torch.int32)
    labels[:, :6] = 1
    probabilities = torch.zeros(3, 10, 14)
    probabilities[1, :, :6], probabilities[0, :, 6:] = 0.8, 0.5
    probabilities[2] = 0.1
    return labels, probabilities


def test_unsure_pixels_and_classes_ask_nothing() -> None:
    labels, probabilities = two_classes()
    asked = {
        index: regions
        for index, regions, _ in regions_to_ask(labels, lambda c: probabilities[c], 3, SETTINGS)
    }
    assert sorted(asked) == [0, 1]
    assert asked[1].boxes.tolist() == [[0, 0, 2, 4]]
    probabilities[1, :4, :6] = 0.2  # still the most probable there, but not enough
    partly = {
        index: regions
        for index, regions, _ in regions_to_ask(labels, lambda c: probabilities[c], 3, SETTINGS)
    }
    assert partly[1].boxes.tolist() == [[0, 2, 2, 4]]
    sure = replace(SETTINGS, threshold=0.6)
    assert [index for index, *_ in regions_to_ask(labels, lambda c: probabilities[c], 3, sure)] == [1]
    all_of_it = replace(SETTINGS, threshold=0.0)
    assert [index for index, *_ in regions_to_ask(labels, lambda c: probabilities[c], 3, all_of_it)] == [0, 1]
    beyond = labels.where(labels == 1, 3)  # no class
    assert [index for index, *_ in regions_to_ask(beyond, lambda c: probabilities[c], 3, SETTINGS)] == [1]


def test_prompts_are_in_the_models_frame() -> None:
    labels, probabilities = two_classes()
    ((_, _, _), (_, regions, half)) = regions_to_ask(labels, lambda c: probabilities[c], 3, SETTINGS)
    prompts = prompts_for(regions, half, (10, 14), side=70, mask_side=28, settings=SETTINGS)
    assert prompts.boxes.tolist() == [[0, 0, 20, 40]]  # ten times 2 and 4
    assert prompts.points.tolist() == [[0, 0]]
    assert prompts.mask.shape == (1, 28, 28)
    assert torch.equal(prompts.mask[0, 20:], torch.zeros(8, 28))
    assert prompts.mask[0, 3, 3] == pytest.approx(0.8 * 0.005)
    assert prompts.mask[0, 3, 20] == 0  # where the class is not likely enough


def test_scores_of_a_class() -> None:
    logits = torch.tensor([[[2.0, -1.0, -1.0]], [[0.0, 1.0, -3.0]]])
    probability = torch.tensor([[0.5, 0.2, 0.9]])
    sigmoid = torch.sigmoid
    expected = [0.5 * float(sigmoid(torch.tensor(2.0))), 0.2 * float(sigmoid(torch.tensor(1.0))), 0.0]
    assert class_scores(logits, probability).flatten().tolist() == pytest.approx(expected)


def test_answers_decide_inside_them_and_old_labels_elsewhere() -> None:
    labels, probabilities = two_classes()

    def answer(prompts):
        logits = torch.full((len(prompts.boxes), 10, 14), -1.0)
        logits[:, 2:5, 5:9] = 3.0  # the same for both classes
        return logits, torch.full((len(prompts.boxes),), 0.9)

    redrawn = redraw(labels, lambda c: probabilities[c], 3, answer, side=70, mask_side=28, settings=SETTINGS)
    settled, best = settle(redrawn, labels, lambda c: probabilities[c], 3, restore_failed=True)
    expected = labels.clone()
    expected[2:5, 5] = 1  # 0.8 against 0
    expected[2:5, 6:9] = 0
    assert torch.equal(settled, expected)
    assert torch.equal(best > 0, (labels < 0) | (redrawn.scores[0] + redrawn.scores[1] > 0))


def test_no_answer_that_counts() -> None:
    labels, probabilities = two_classes()

    def answer(prompts):
        return torch.ones(len(prompts.boxes), 10, 14), torch.full((len(prompts.boxes),), 0.8)  # not above

    made = redraw(labels, lambda c: probabilities[c], 3, answer, side=70, mask_side=28, settings=SETTINGS)
    assert made is None


def test_failed_regions_get_their_labels_back_unless_as_released() -> None:
    labels, probabilities = two_classes()

    def answer(prompts):  # class 1, on the left, fails; class 0 claims everything
        left = prompts.boxes[0, 0] == 0
        return torch.full((1, 10, 14), 9.0), torch.tensor([0.2 if left else 0.9])

    probabilities[0, :, :6] = 0.1
    redrawn = redraw(labels, lambda c: probabilities[c], 3, answer, side=70, mask_side=28, settings=SETTINGS)
    assert redrawn.failed is not None
    assert torch.equal(redrawn.failed, labels == 1)
    back, best = settle(redrawn, labels, lambda c: probabilities[c], 3, restore_failed=True)
    assert torch.equal(back, labels)
    released, same = settle(redrawn, labels, lambda c: probabilities[c], 3, restore_failed=False)
    assert torch.equal(released, torch.zeros_like(labels))
    assert torch.equal(best, same)
    assert best[0, 0] == pytest.approx(0.8)
    assert redrawn.score(1, probabilities[1])[0, 0] == pytest.approx(0.8)
    assert redrawn.score(2, probabilities[2])[0, 9] == 0


def test_scores_of_classes_that_did_not_ask_are_nothing() -> None:
    assert torch.equal(Redrawn().score(0, torch.ones(2, 3)), torch.zeros(2, 3))
