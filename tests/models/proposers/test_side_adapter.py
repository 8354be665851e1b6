"""The side adapter: a naive second form, positions of any grid, images apart from each other."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import side_cases
from lexiseg.models.early_blocks import EarlyTokens
from lexiseg.models.proposers.side_adapter import SideAdapter

CLIP_WIDTH, CLIP_GRID = 17, (3, 2)


def adapter(**changed):
    return side_cases.shaken(SideAdapter(CLIP_WIDTH, replace(side_cases.SETTINGS, **changed)))


def early(count=2):
    torch.manual_seed(4)
    tokens = 1 + math.prod(CLIP_GRID)
    return EarlyTokens({n: torch.randn(count, tokens, CLIP_WIDTH) for n in (0, 2)}, 2, CLIP_GRID)


def naive(module, images, clip):
    """Masks after the blocks decoded, written from the description."""
    patches = module.patches(images)
    grid = patches.shape[-2:]
    side = math.isqrt(module.positions.shape[1])
    square = module.positions[0].T.reshape(1, -1, side, side)
    resized = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)[0].flatten(1).T
    positions = torch.cat([module.query_positions[0], resized])
    queries = module.queries[0].expand(len(images), -1, -1)
    tokens, masks = torch.cat([queries, patches.flatten(2).transpose(1, 2)], 1), []
    for number in range(len(module.blocks) + 1):
        tokens = module.blocks[number - 1](tokens) if number else tokens + positions
        for block, after in side_cases.SETTINGS.fusion:
            if after == number:
                fusion = module.fusions[str(number)]
                maps = clip.blocks[block][:, 1:].transpose(1, 2).unflatten(2, CLIP_GRID)
                centred = maps - maps.mean(1, keepdim=True)
                maps = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
                maps = maps * fusion.norm.weight.view(-1, 1, 1) + fusion.norm.bias.view(-1, 1, 1)
                added = F.interpolate(
                    fusion.projection(maps), size=grid, mode="bilinear", align_corners=False
                )
                tokens = tokens.clone()
                tokens[:, 5:] += added.flatten(2).transpose(1, 2)
        if number in side_cases.SETTINGS.decoded:
            decoded = module.query_decoder(tokens[:, :5])
            pixels = module.pixel_decoder(tokens[:, 5:].transpose(1, 2).unflatten(2, grid))
            masks.append((decoded[:, :, :, None, None] * pixels[:, None]).sum(2))
        if number:
            tokens = tokens + positions
    return masks


@torch.no_grad()
def test_equals_a_naive_second_form():
    module, images, clip = adapter(), side_cases.images(), early()
    found, (first, last) = module(images, clip), naive(module, images, clip)
    assert found.masks.shape == (2, 5, 4, 6)
    torch.testing.assert_close(found.masks, last, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.earlier[0].masks, first, rtol=1e-4, atol=1e-5)
    assert found.embeddings.shape == (2, 5, 13)
    assert found.pixels.shape == (2, 14, 4, 6)
    only = module(images, clip, last_only=True)
    assert torch.equal(only.masks, found.masks)
    assert not only.earlier


@torch.no_grad()
def test_as_many_patches_in_another_shape_get_resized_positions():
    """36 stored positions of a square grid are not those of 2×18 patches, though the release takes them so."""
    module, clip, images = adapter(), early(1), side_cases.images(1, (32, 288))
    torch.testing.assert_close(
        module(images, clip).masks, naive(module, images, clip)[-1], rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_images_do_not_mix():
    module, images, clip = adapter(), side_cases.images(), early()
    both = module(images, clip)
    for index in range(2):
        alone = EarlyTokens({n: tokens[index, None] for n, tokens in clip.blocks.items()}, 2, CLIP_GRID)
        one = module(images[index, None], alone)
        for name in ("masks", "embeddings", "pixels"):
            torch.testing.assert_close(
                getattr(one, name)[0], getattr(both, name)[index], rtol=1e-4, atol=1e-5
            )


def test_every_weight_learns():
    module = adapter()
    found = module(side_cases.images(), early())
    (found.masks.square().sum() + found.earlier[0].masks.square().sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


@pytest.mark.parametrize("fusion", [(), ((2, 3),)], ids=str)
@torch.no_grad()
def test_clip_enters_where_it_is_told(fusion):
    module, images = adapter(fusion=fusion), side_cases.images(1)
    one, other = (
        module(images, early(1)),
        module(images, EarlyTokens({2: early(1).blocks[2] + 1}, 2, CLIP_GRID)),
    )
    assert torch.equal(one.earlier[0].masks, other.earlier[0].masks)  # block 2 has not seen it yet
    one, other = module(images, early(1)), module(images, EarlyTokens({2: -early(1).blocks[2]}, 2, CLIP_GRID))
    assert torch.equal(one.masks, other.masks) == (not fusion)
