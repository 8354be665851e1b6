"""Structural similarity by hand, and as a mask loss."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.losses.structural_similarity import empty_mask_similarity, mask_similarity, mask_ssim_loss
from lexiseg.ops.gaussian import gaussian_window

WINDOW = gaussian_window(11, 1.5)


def _naive(maps, masks):
    """SSIM as written, with one two-dimensional convolution per mean."""

    def mean(x):
        return F.conv2d(x[:, None], (WINDOW[:, None] * WINDOW)[None, None], padding=5)[:, 0]

    m1, m2 = mean(maps), mean(masks)
    s1, s2, s12 = mean(maps**2) - m1**2, mean(masks**2) - m2**2, mean(maps * masks) - m1 * m2
    return (2 * m1 * m2 + 1e-4) * (2 * s12 + 9e-4) / ((m1**2 + m2**2 + 1e-4) * (s1 + s2 + 9e-4))


def test_one_pixel_window_by_hand():
    """A window of one pixel has no variance: SSIM = (2ab + C1) / (a^2 + b^2 + C1)."""
    a, b = torch.tensor([[[0.3, -2.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 1.0]]])
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    torch.testing.assert_close(mask_similarity(a, b, torch.ones(1)), expected)


@pytest.mark.parametrize("size", [(13, 17), (67, 131)])
def test_any_size_against_plain_convolutions(size):
    maps, masks = torch.randn(2, *size), (torch.rand(2, *size) > 0.5).float()
    torch.testing.assert_close(mask_similarity(maps, masks, WINDOW), _naive(maps, masks))
    nothing = torch.zeros_like(maps)
    torch.testing.assert_close(empty_mask_similarity(maps, WINDOW), _naive(maps, nothing))


def _direct(logits, labels):
    upsampled = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    masks = torch.stack([(labels == k).float() for k in range(logits.shape[1])], 1)
    return 1 - _naive(upsampled.flatten(0, 1), masks.flatten(0, 1)).mean()


def test_chunks_change_neither_loss_nor_gradient(monkeypatch):
    logits, labels = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randint(0, 5, (2, 19, 23))
    labels[0, :3] = 255
    reference = _direct(logits, labels)
    (expected,) = torch.autograd.grad(reference, logits)
    monkeypatch.setattr("lexiseg.losses.structural_similarity._CHUNK_ELEMENTS", 2 * 19 * 23)
    loss = mask_ssim_loss(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(gradient, expected)


def test_ignored_pixels_are_no_centres():
    logits, labels = torch.randn(1, 2, 2, 4), torch.randint(0, 2, (1, 12, 24))
    labels[..., 12:] = 255
    ignored = mask_ssim_loss(logits, labels, ignored="ignored")
    upsampled = F.interpolate(logits, size=(12, 24), mode="bilinear", align_corners=False)[0]
    masks = torch.stack([(labels[0] == k).float() for k in range(2)])
    similar = _naive(upsampled, masks)
    torch.testing.assert_close(ignored, 1 - similar[..., :12].mean())


def test_criterion_adds_it_with_its_weight():
    logits, labels = torch.randn(1, 3, 2, 3), torch.randint(0, 3, (1, 8, 12))
    plain = MaskCriterion(MaskLossWeights(dice=0.0))(logits, labels)
    both = MaskCriterion(MaskLossWeights(dice=0.0, ssim=2.5))(logits, labels)
    assert "loss_ssim" not in plain
    torch.testing.assert_close(both["loss_ssim"], 2.5 * _direct(logits, labels))
    torch.testing.assert_close(both["loss"], plain["loss"] + both["loss_ssim"])


def test_criterion_ignores_what_the_other_losses_ignore():
    logits, labels = torch.randn(1, 3, 2, 3), torch.randint(0, 3, (1, 11, 13))
    labels[..., 5:] = 255
    for ignored in ("negative", "ignored"):
        weights = MaskLossWeights(ssim=2.5, ignored=ignored)
        expected = 2.5 * mask_ssim_loss(logits, labels, ignored=ignored)
        torch.testing.assert_close(MaskCriterion(weights)(logits, labels)["loss_ssim"], expected)
    assert mask_ssim_loss(logits, labels) != mask_ssim_loss(logits, labels, ignored="ignored")
