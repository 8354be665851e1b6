"""Cross-entropy of pixels against loops, and its place in the criterion."""

import math

import pytest
import torch
import torch.nn.functional as F

from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.losses.pixel_cross_entropy import pixel_cross_entropy


def case():
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 3, 5, 7, generator=generator)
    labels = torch.randint(0, 3, (2, 5, 7), generator=generator)
    labels[0, :2] = 255
    return logits, labels


def test_by_loops():
    logits, labels = case()
    losses = []
    for image in range(2):
        for row in range(5):
            for column in range(7):
                label = int(labels[image, row, column])
                if label != 255:
                    values = logits[image, :, row, column].tolist()
                    losses.append(math.log(sum(map(math.exp, values))) - values[label])
    assert float(pixel_cross_entropy(logits, labels)) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_small_masks_are_enlarged_and_nothing_labelled_costs_nothing():
    logits, labels = case()
    large = labels.repeat_interleave(2, 1).repeat_interleave(3, 2)
    enlarged = F.interpolate(logits, size=(10, 21), mode="bilinear", align_corners=False)
    assert float(pixel_cross_entropy(logits, large)) == pytest.approx(
        float(pixel_cross_entropy(enlarged, large))
    )
    logits.requires_grad_()
    nothing = pixel_cross_entropy(logits, torch.full_like(labels, 255))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert not logits.grad.any()


def test_in_the_criterion():
    logits, labels = case()
    logits.requires_grad_()
    alone = MaskCriterion(MaskLossWeights(focal=0, dice=0, cross_entropy=2))(logits, labels)
    assert float(alone["loss"].detach()) == pytest.approx(
        2 * float(pixel_cross_entropy(logits, labels).detach())
    )
    torch.testing.assert_close(alone["loss_cross_entropy"], alone["loss"])
    alone["loss"].backward()
    expected = torch.autograd.grad(2 * pixel_cross_entropy(logits, labels), logits)[0]
    torch.testing.assert_close(logits.grad, expected)
    both = MaskCriterion(MaskLossWeights(cross_entropy=2))(logits, labels)["loss"]
    masks = MaskCriterion(MaskLossWeights())(logits, labels)["loss"]
    torch.testing.assert_close(both, masks + alone["loss"])
    assert "loss_cross_entropy" not in MaskCriterion(MaskLossWeights())(logits, labels)


def test_many_classes_have_another_ignored_label():
    logits = torch.randn(1, 300, 2, 3)
    labels = torch.tensor([[[255, 0, 65535], [65535, 65535, 299]]])
    own = [(0, 0, 255), (0, 1, 0), (1, 2, 299)]
    losses = [-float(logits[0, :, row, column].log_softmax(0)[label]) for row, column, label in own]
    assert float(pixel_cross_entropy(logits, labels)) == pytest.approx(sum(losses) / 3, rel=1e-5)
