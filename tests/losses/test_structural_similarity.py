"""Structural similarity by hand, and as a mask loss."""

import torch
import torch.nn.functional as F

from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.losses.structural_similarity import mask_ssim_loss, structural_similarity
from lexiseg.ops.gaussian import gaussian_window


def test_one_pixel_window_by_hand():
    """A window of one pixel has no variance: SSIM = (2ab + C1) / (a^2 + b^2 + C1)."""
    a, b = torch.tensor([[[0.3, -2.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 1.0]]])
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    torch.testing.assert_close(structural_similarity(a, b, torch.ones(1)), expected)


def test_a_map_is_similar_to_itself_and_zeros_lie_beyond_the_border():
    window = gaussian_window(11, 1.5)
    a, b = torch.rand(2, 13, 17), torch.rand(2, 13, 17)
    torch.testing.assert_close(structural_similarity(a, a, window), torch.ones_like(a))
    padded = structural_similarity(F.pad(a, (5,) * 4), F.pad(b, (5,) * 4), window)[:, 5:-5, 5:-5]
    torch.testing.assert_close(structural_similarity(a, b, window), padded)


def _direct(logits, labels):
    upsampled = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    masks = torch.stack([(labels == k).float() for k in range(logits.shape[1])], 1)
    return (
        1
        - structural_similarity(upsampled.flatten(0, 1), masks.flatten(0, 1), gaussian_window(11, 1.5)).mean()
    )


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
    similar = structural_similarity(upsampled, masks, gaussian_window(11, 1.5))
    torch.testing.assert_close(ignored, 1 - similar[..., :12].mean())


def test_criterion_adds_it_with_its_weight():
    logits, labels = torch.randn(1, 3, 2, 3), torch.randint(0, 3, (1, 8, 12))
    plain = MaskCriterion(MaskLossWeights(dice=0.0))(logits, labels)
    both = MaskCriterion(MaskLossWeights(dice=0.0, ssim=2.5))(logits, labels)
    assert "loss_ssim" not in plain
    torch.testing.assert_close(both["loss_ssim"], 2.5 * _direct(logits, labels))
    torch.testing.assert_close(both["loss"], plain["loss"] + both["loss_ssim"])
