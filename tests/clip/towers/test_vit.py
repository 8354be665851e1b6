"""The stepped tower equals the stock one at its native size, and works on any rectangle."""

import pytest
import torch

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import ConfigError


def test_native_size_equals_the_stock_model(tiny_clip):
    tower = VisionTower(tiny_clip)
    image = torch.randn(3, 3, 40, 40)
    stock = tiny_clip.get_image_features(image)
    stock = getattr(stock, "pooler_output", stock)
    for mode in ("bilinear", "bicubic", "bicubic_offset", "bicubic_antialias"):
        torch.testing.assert_close(tower(image, position_mode=mode), stock, rtol=1e-5, atol=1e-6)


def test_rectangles_and_batches(tiny_clip):
    tower = VisionTower(tiny_clip)
    images = torch.randn(2, 3, 24, 56)
    both = tower(images)
    one_by_one = torch.cat([tower(image[None]) for image in images])
    torch.testing.assert_close(both, one_by_one, rtol=1e-5, atol=1e-6)
    assert tower.grid(images) == (3, 7)
    assert (tower(images.transpose(2, 3)) - both).abs().max() > 1e-3, (
        "height and width must not be interchangeable"
    )


def test_class_embedding_twice_changes_the_class_token_only(tiny_clip):
    tower = VisionTower(tiny_clip)
    image = torch.randn(1, 3, 40, 40)
    once, twice = tower.embed(image), tower.embed(image, class_embedding_twice=True)
    assert torch.equal(once[:, 1:], twice[:, 1:])
    assert not torch.allclose(once[:, 0], twice[:, 0])


def test_size_that_the_patch_does_not_divide(tiny_clip):
    with pytest.raises(
        ConfigError, match=r"41×40 pixels is no multiple of the patch size 8; pad it to 48×40"
    ):
        VisionTower(tiny_clip).embed(torch.zeros(1, 3, 41, 40))


def test_gradient_passes_through_but_stays_out_of_the_weights(tiny_clip):
    tower = VisionTower(tiny_clip)
    tokens = torch.randn(1, 5, tower.width, requires_grad=True)
    tower.block(1, tokens).sum().backward()
    assert tokens.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in tower.parameters())
