"""The fused mask loss is exact: hand values, the direct form, gradients, ignored pixels, memory."""

import math

import pytest
import torch

from lexiseg.errors import TrainingError
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.functional import dice_loss, direct_mask_loss, sigmoid_focal_loss
from lexiseg.losses.fused import MaskLossWeights, count_masks, fused_mask_loss
from lexiseg.ops.interpolate import bilinear_matrix


def test_focal_by_hand():
    # p = 3/4 at a positive pixel, p = 1/2 at a negative one.
    logits = torch.tensor([[math.log(3.0), 0.0]])
    targets = torch.tensor([[1.0, 0.0]])
    positive = 0.25 * (1 / 4) ** 2 * -math.log(3 / 4)
    negative = 0.75 * (1 / 2) ** 2 * math.log(2)
    assert sigmoid_focal_loss(logits, targets).item() == pytest.approx((positive + negative) / 2)


def test_dice_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0, 1.0]])
    expected = 1 - (2 * (3 / 4 + 1 / 2) + 1) / ((3 / 4 + 1 / 2 + 1 / 2) + 2 + 1)
    assert dice_loss(logits, targets).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("grid", "size"), [((3, 5), (17, 23)), ((7, 4), (7, 4)), ((11, 13), (5, 3))], ids=["up", "same", "down"]
)
def test_equals_the_direct_form(grid, size):
    torch.manual_seed(1)
    logits = (3 * torch.randn(2, 7, *grid)).requires_grad_()
    labels = torch.randint(0, 7, (2, *size))
    labels[0, :2] = 255
    labels[labels == 4] = 255  # a class absent from the batch
    num_masks = count_masks(labels, 7)
    focal, dice = direct_mask_loss(logits, labels, num_masks.item())
    (100 * focal + dice).backward()
    expected, logits.grad = logits.grad.clone(), None
    total, fused_focal, fused_dice = fused_mask_loss(logits, labels, num_masks)
    total.backward()
    torch.testing.assert_close(fused_focal, focal.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(fused_dice, dice.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-7)


def test_chunking_does_not_matter(monkeypatch):
    torch.manual_seed(2)
    logits = torch.randn(2, 5, 3, 4, requires_grad=True)
    labels = torch.randint(0, 5, (2, 13, 11))
    total, *_ = fused_mask_loss(logits, labels, 3.0)
    (whole,) = torch.autograd.grad(total, logits)
    monkeypatch.setattr("lexiseg.losses.fused._CPU_ELEMENTS", 13 * 11 * 2)
    total_chunked, *_ = fused_mask_loss(logits, labels, 3.0)
    (chunked,) = torch.autograd.grad(total_chunked, logits)
    torch.testing.assert_close(total_chunked, total)
    torch.testing.assert_close(chunked, whole)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_gradient_by_finite_differences(gamma):
    torch.manual_seed(3)
    weights = MaskLossWeights(gamma=gamma, dice=7.0, alpha=0.4)
    logits = torch.randn(1, 3, 2, 3)
    labels = torch.tensor([[[0, 1, 255, 2, 2], [0, 0, 1, 1, 2], [2, 2, 1, 255, 0]]])
    value = lambda x: fused_mask_loss(x, labels, 2.0, weights)[0].double()  # noqa: E731
    free = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(free), free)
    step = 1e-2
    for index in range(logits.numel()):
        nudge = torch.zeros(logits.numel())
        nudge[index] = step
        nudge = nudge.view_as(logits)
        slope = (value(logits + nudge) - value(logits - nudge)) / (2 * step)
        assert gradient.flatten()[index].item() == pytest.approx(slope.item(), rel=2e-2, abs=2e-3)


def test_ignored_pixels_are_outside_every_sum():
    torch.manual_seed(4)
    weights = MaskLossWeights(ignored="ignored")
    logits = torch.randn(1, 3, 5, 7, requires_grad=True)
    labels = torch.randint(0, 3, (1, 5, 7))
    whole, *_ = fused_mask_loss(logits[..., :4], labels[..., :4], 1.0, weights)
    hidden = labels.clone()
    hidden[..., 4:] = 255
    total, *_ = fused_mask_loss(logits, hidden, 1.0, weights)
    torch.testing.assert_close(total, whole)
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient[..., 4:].abs().max() == 0
    as_negatives, *_ = fused_mask_loss(logits, hidden, 1.0)
    assert as_negatives > total


def test_batch_without_labels():
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    losses = MaskCriterion()(logits, torch.full((2, 8, 10), 255))
    assert losses["loss_dice"] == 0
    assert losses["loss_focal"] > 0
    losses["loss"].backward()
    assert torch.isfinite(logits.grad).all()


def test_low_precision_logits_are_computed_in_float32():
    logits = torch.randn(1, 3, 4, 5, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(0, 3, (1, 8, 10))
    total, *_ = fused_mask_loss(logits, labels, 2.0)
    reference, *_ = fused_mask_loss(logits.detach().float(), labels, 2.0)
    assert total.dtype == torch.float32
    assert torch.equal(total, reference)
    total.backward()
    assert logits.grad.dtype == torch.bfloat16


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(TrainingError, match="label 3 reached a loss over 3 classes"):
        MaskCriterion()(torch.zeros(1, 3, 2, 2), torch.full((1, 4, 4), 3))


def test_labels_are_left_alone():
    labels = torch.randint(0, 3, (1, 6, 5))
    before = labels.clone()
    MaskCriterion()(torch.zeros(1, 3, 2, 2, requires_grad=True), labels)["loss"].backward()
    assert torch.equal(labels, before)


def test_bilinear_matrix_is_torch_interpolation_and_its_adjoint():
    x = torch.randn(2, 3, 5)
    rows, columns = bilinear_matrix(3, 7), bilinear_matrix(5, 11)
    expected = torch.nn.functional.interpolate(x[None], size=(7, 11), mode="bilinear")[0]
    torch.testing.assert_close(rows @ x @ columns.T, expected)
    g = torch.randn(2, 7, 11)
    x.requires_grad_()
    (torch.nn.functional.interpolate(x[None], size=(7, 11), mode="bilinear")[0] * g).sum().backward()
    torch.testing.assert_close(rows.T @ g @ columns, x.grad)


def test_autocast_changes_nothing_about_the_sums():
    logits = torch.randn(2, 5, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.randint(0, 5, (2, 19, 23))
    outside = fused_mask_loss(logits.detach().float(), labels, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fused_mask_loss(logits, labels, 3)
    inside[0].backward()
    torch.testing.assert_close(inside, outside)
    assert logits.grad.isfinite().all()


def test_stages_alone_are_supervised_with_their_weight():
    labels = torch.randint(0, 5, (2, 13, 17))
    stages = [torch.randn(2, 5, 3, 4) for _ in range(3)]
    plain, deep = MaskCriterion(), MaskCriterion(MaskLossWeights(stages=0.7))
    alone = [float(plain(stage, labels)["loss"]) for stage in stages]
    found = deep(sum(stages), labels, stages)
    assert float(found["loss_stages"]) == pytest.approx(0.7 * sum(alone) / 3, rel=1e-6)
    together = float(plain(sum(stages), labels, stages)["loss"])
    assert float(found["loss"]) == pytest.approx(together + float(found["loss_stages"]), rel=1e-6)
