"""The tower's tokens block by block are those that CLIP and the mask models themselves compute."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.analysis.block_tokens import frozen_blocks, read_blocks, trained_blocks
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from lexiseg.ops.grid import tokens_to_map


@pytest.fixture
def tower(tiny_clip):
    return VisionTower(tiny_clip)


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 24, 56), generator=torch.Generator().manual_seed(1)).float()


def test_frozen_blocks_are_the_stock_hidden_states(tower, tiny_clip, images):
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in (CLIP_MEAN, CLIP_STD))
    expected = tiny_clip.vision_model(
        (images - mean) / std, output_hidden_states=True, interpolate_pos_encoding=True
    ).hidden_states
    found = list(frozen_blocks(tower)(images))
    assert len(found) == tower.depth
    for tokens, state in zip(found, expected[1:], strict=True):
        torch.testing.assert_close(tokens, state[:, 1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prompts", ["deep", "none", "spectral"])
def test_trained_blocks_are_what_the_model_reads(tower, images, prompts):
    settings = CascadeSettings(
        stages=((3,),), prompts=prompts, prompt_length=2, spectral_grid=5, decoder_layers=1, decoder_heads=2
    )
    model = CascadeCLIP(tower, settings).eval()
    last = list(trained_blocks(model)(images))[-1]
    features = tower.project(model.prompt_norm(last))
    expected = model.encode(model.normalize(images)).stages[0]
    found = tokens_to_map(F.normalize(features, dim=-1), (3, 7))
    torch.testing.assert_close(F.normalize(expected, dim=1), found, rtol=1e-4, atol=1e-5)


def test_one_photograph_equals_it_in_a_batch(tower, images):
    single = [tokens[0] for tokens in frozen_blocks(tower)(images[:1])]
    for alone, together in zip(single, frozen_blocks(tower)(images), strict=True):
        torch.testing.assert_close(alone, together[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "short_side", "grid"),
    [((37, 61), 24, (3, 5)), ((24, 56), 24, (3, 7)), ((61, 37), 20, (4, 2)), ((5, 3), 3, (1, 1))],
)
def test_sizes_become_whole_patches(tower, size, short_side, grid):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    read = read_blocks(
        frozen_blocks(tower), image, short_side=short_side, patch_size=8, device=torch.device("cpu")
    )
    assert read.grid == grid
    assert [tuple(tokens.shape) for tokens in read.blocks] == [(grid[0] * grid[1], 24)] * 3
    assert not read.blocks[0].requires_grad


def test_a_size_that_fits_is_not_resized(tower, images):
    image = images[0].permute(1, 2, 0).numpy().astype(np.uint8)
    read = read_blocks(frozen_blocks(tower), image, short_side=24, patch_size=8, device=torch.device("cpu"))
    torch.testing.assert_close(read.blocks[2], list(frozen_blocks(tower)(images))[2][0], rtol=1e-4, atol=1e-5)
