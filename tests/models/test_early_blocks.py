"""CLIP's first blocks on a smaller image: size, positions, what is kept, what trains."""

import pytest
import torch
import torch.nn.functional as F

import side_cases
from lexiseg.errors import ConfigError
from lexiseg.models.early_blocks import EarlyBlocks


def early(tower, resolution=1.0, kept=frozenset({0, 1})):
    return EarlyBlocks(tower.positions, last=2, kept=kept, resolution=resolution)


@torch.no_grad()
def test_at_full_size_they_are_the_towers_own():
    tower, images = side_cases.tower(), side_cases.images()
    found = early(tower)(tower, images)
    tokens = tower.embed(images)
    for number in range(3):
        torch.testing.assert_close(found.blocks[number], tokens)
        tokens = tower.block(number, tokens)
    assert found.grid == tower.grid(images)
    assert torch.equal(found.tokens, found.blocks[2])


@torch.no_grad()
def test_only_what_was_asked_for_is_kept():
    tower = side_cases.tower()
    assert early(tower, kept=frozenset({1}))(tower, side_cases.images(1)).blocks.keys() == {1, 2}


@torch.no_grad()
def test_resized_by_the_factor_and_cut_to_whole_patches():
    tower, images = side_cases.tower(), side_cases.images(1, (64, 96))
    found = early(tower, 0.7)(tower, images)
    # Sampling positions are (i + 1/2) / 0.7 - 1/2, though 44 / 64 and 67 / 96 are less than 0.7.
    rows, columns = ((torch.arange(n) + 0.5) / 0.7 for n in (44, 67))
    y, x = torch.meshgrid(rows / 64 * 2 - 1, columns / 96 * 2 - 1, indexing="ij")
    small = F.grid_sample(images, torch.stack([x, y], -1)[None], padding_mode="border", align_corners=False)
    torch.testing.assert_close(found.blocks[0], tower.embed(small[..., :40, :64]), rtol=1e-4, atol=1e-4)
    assert found.grid == (5, 8)


@torch.no_grad()
def test_a_side_is_rounded_down_in_double_precision():
    tower = side_cases.tower()
    assert early(tower, 0.7)(tower, torch.zeros(1, 3, 16, 1440)).grid == (
        1,
        125,
    )  # 1007 pixels; 1008 would be 126


def test_only_the_position_embedding_trains():
    tower = side_cases.tower()
    module = early(tower, 0.7)
    module(tower, side_cases.images()).tokens.square().sum().backward()
    assert module.positions.grad.abs().sum(1).min() > 0  # the class token's row too
    assert [name for name, _ in module.named_parameters()] == ["positions"]
    assert all(parameter.grad is None for parameter in tower.parameters())
    with torch.no_grad():
        module.positions.zero_()
    assert tower.positions.abs().max() > 0  # a copy


def test_an_image_without_a_whole_patch():
    tower = side_cases.tower()
    with pytest.raises(ConfigError, match="32x8 pixels at 0.5 of its size has no whole patch of 8"):
        early(tower, 0.5)(tower, torch.zeros(1, 3, 32, 8))
