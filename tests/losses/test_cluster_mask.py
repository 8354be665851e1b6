"""The chunked mask loss is exact: hand values, the direct form, gradients, odd batches."""

import math

import pytest
import torch
from torch import nn

from lexiseg.losses.cluster_mask import cluster_mask_loss, counted_pixels, direct_cluster_mask_loss
from lexiseg.models.convolutional_mask_decoder import ConvolutionalMaskDecoder


class Times(nn.Module):
    """The smallest decoder: one factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, maps):
        return maps * self.factor


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return ConvolutionalMaskDecoder(32)


@pytest.fixture
def case():
    """Two images of 7 and 6 maps on 3×5 patches; targets of 23×17 that leave some pixels of each image uncounted."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(13, 3, 5, generator=generator)
    targets = torch.rand(13, 23, 17, generator=generator) < 0.1
    targets[2] = False  # a cluster without a mask still answers for the pixels of the others
    return maps, targets, torch.tensor([0] * 7 + [1] * 6)


def gradients(loss, maps, decoder):
    return torch.autograd.grad(loss, [maps, *decoder.parameters()])


def test_by_hand():
    # Two maps of one image; only the first two of three pixels belong to a cluster. Logits ln 3, 0 and 0, ln 3.
    maps = torch.tensor([[[1.0, 0.0, 9.0]], [[0.0, 1.0, 9.0]]])
    targets = torch.tensor([[[1, 0, 0]], [[1, 1, 0]]], dtype=torch.bool)
    owners = torch.zeros(2, dtype=torch.long)
    losses = [math.log(4 / 3), math.log(2), math.log(2), math.log(4 / 3)]
    factor = math.log(3.0)
    for form in (cluster_mask_loss, direct_cluster_mask_loss):
        assert form(maps, targets, owners, Times(factor)).item() == pytest.approx(sum(losses) / 4)


def test_counted_pixels_by_hand():
    targets = torch.tensor([[[1, 0, 0]], [[0, 0, 1]], [[0, 1, 0]]], dtype=torch.bool)
    assert counted_pixels(targets, torch.tensor([1, 1, 0])).int().tolist() == [[[0, 1, 0]], [[1, 0, 1]]]


@pytest.mark.parametrize("maps_per_chunk", [1, 4, 64])
def test_equals_the_direct_form(case, decoder, monkeypatch, maps_per_chunk):
    monkeypatch.setattr("lexiseg.losses.cluster_mask._CPU_MAPS", maps_per_chunk)
    maps, targets, owners = case
    maps.requires_grad_()
    expected = direct_cluster_mask_loss(maps, targets, owners, decoder)
    loss = cluster_mask_loss(maps, targets, owners, decoder)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    theirs = gradients(expected, maps, decoder)
    ours = gradients(3 * loss, maps, decoder)  # what stands behind the loss reaches the gradient
    names = ["maps", *(name for name, _ in decoder.named_parameters())]
    for name, mine, direct in zip(names, ours, theirs, strict=True):
        difference = (mine / 3 - direct).abs().max() / direct.abs().max()
        assert difference < 1e-5, name


def test_gradient_by_finite_differences(case):
    maps, targets, owners = (part[4:9] for part in case)
    maps, decoder = maps.requires_grad_(), Times(0.7)
    (slope,) = torch.autograd.grad(cluster_mask_loss(maps, targets, owners, decoder), maps)
    step = 1e-2
    for place in ((0, 0, 0), (3, 2, 4), (4, 1, 2)):
        nudge = torch.zeros_like(maps).index_put(tuple(map(torch.tensor, place)), torch.tensor(step))
        up, down = (
            direct_cluster_mask_loss(m, targets, owners, decoder) for m in (maps + nudge, maps - nudge)
        )
        assert slope[place].item() == pytest.approx(((up - down) / (2 * step)).item(), rel=5e-3, abs=1e-5)


def test_images_do_not_see_each_other(case, decoder):
    maps, targets, owners = case
    alone = cluster_mask_loss(maps[:7], targets[:7], owners[:7], decoder)
    other = cluster_mask_loss(maps[7:], targets[7:], owners[7:] - 1, decoder)
    shares = torch.stack([7 * targets[:7].any(0).sum(), 6 * targets[7:].any(0).sum()]).float()
    both = (torch.stack([alone, other]) * shares).sum() / shares.sum()
    torch.testing.assert_close(cluster_mask_loss(maps, targets, owners, decoder), both)


@pytest.mark.parametrize("form", [cluster_mask_loss, direct_cluster_mask_loss])
def test_no_positive_pixel(case, decoder, form):
    maps, targets, owners = case
    maps.requires_grad_()
    loss = form(maps, torch.zeros_like(targets), owners, decoder)
    assert loss == 0
    assert all(gradient.abs().max() == 0 for gradient in gradients(loss, maps, decoder))


def test_no_map(decoder):
    maps = torch.zeros(0, 3, 5, requires_grad=True)
    loss = cluster_mask_loss(
        maps, torch.zeros(0, 6, 10, dtype=torch.bool), torch.zeros(0, dtype=torch.long), decoder
    )
    loss.backward()
    assert loss == 0
    assert decoder.closing.bias.grad == 0


def test_only_what_needs_a_gradient_gets_one(case, decoder):
    maps, targets, owners = case
    decoder.requires_grad_(requires_grad=False)
    decoder.closing.bias.requires_grad_()
    cluster_mask_loss(maps, targets, owners, decoder).backward()
    assert decoder.closing.bias.grad is not None
    assert decoder.opening.weight.grad is None
    assert maps.grad is None
    with torch.no_grad():
        assert not cluster_mask_loss(maps, targets, owners, decoder).requires_grad


def test_mixed_precision(case, decoder):
    maps, targets, owners = case
    maps.requires_grad_()
    exact = cluster_mask_loss(maps, targets, owners, decoder)
    with torch.autocast("cpu", torch.bfloat16):
        loss = cluster_mask_loss(maps, targets, owners, decoder)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)
    for low, full in zip(gradients(loss, maps, decoder), gradients(exact, maps, decoder), strict=True):
        assert low.dtype == full.dtype
        assert (low - full).norm() < 0.2 * full.norm()


def test_inputs_are_left_alone(case, decoder):
    before = [part.clone() for part in case]
    cluster_mask_loss(*case, decoder)
    assert all(torch.equal(now, then) for now, then in zip(case, before, strict=True))
    assert not case[0].requires_grad
