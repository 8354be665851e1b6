"""Shadow tokens: every region run alone by the written formula, words, biases, what is missing."""

import pytest
import torch
import torch.nn.functional as F

import side_cases
from lexiseg.models.early_blocks import EarlyTokens
from lexiseg.models.region_classifiers.shadow_tokens import ShadowTokens
from lexiseg.types import ClassWords, Proposals

GRID, SIDE_GRID, EARLY = (5, 3), (4, 7), 1


def classifier():
    made = ShadowTokens(
        pixel_width=11, region_width=13, hidden=9, heads=3, embed_dim=side_cases.EMBED, scale=20.0
    )
    return side_cases.shaken(made)


def proposals(count=2, regions=5):
    torch.manual_seed(5)
    return Proposals(
        torch.randn(count, regions, *SIDE_GRID),
        torch.randn(count, regions, 13),
        torch.randn(count, 11, *SIDE_GRID),
    )


def early(tower, count=2):
    torch.manual_seed(6)
    return EarlyTokens({EARLY: torch.randn(count, 1 + GRID[0] * GRID[1], tower.width)}, EARLY, GRID)


def pooled(bias):
    """Largest bias in each window of the coarser or finer grid; windows overlap where sides do not divide."""
    height, width = bias.shape
    rows, columns = GRID
    windows = torch.empty(GRID)
    for r in range(rows):
        for c in range(columns):
            top, bottom = r * height // rows, -(-(r + 1) * height // rows)
            left, right = c * width // columns, -(-(c + 1) * width // columns)
            windows[r, c] = bias[top:bottom, left:right].max()
    return windows.flatten()


def naive(module, found, tokens, tower):
    """One region of one image at a time; a shadow token attends to itself and to the patches, as if nothing else were."""
    results = torch.empty(*found.embeddings.shape[:2], side_cases.EMBED)
    for image, region in torch.cartesian_prod(*map(torch.arange, found.embeddings.shape[:2])).tolist():
        maps = module.pixels(found.pixels[image, None])[0].unflatten(0, (3, 13))
        query = found.embeddings[image, region]
        scores = (
            torch.einsum("c,mchw->mhw", query, maps) * module.bias_scaling.weight + module.bias_scaling.bias
        )
        bias = torch.stack([pooled(one) for one in scores])  # (heads, patches)
        plain = tokens.tokens[image, None]
        shadow = plain[:, :1]
        for block in range(EARLY, tower.depth):
            q, k, v = tower.qkv(block, tower.norm1(block, shadow))
            _, keys, values = tower.qkv(block, tower.norm1(block, plain))
            keys, values = torch.cat([k, keys[:, :, 1:]], 2), torch.cat([v, values[:, :, 1:]], 2)
            logits = (q @ keys.transpose(-2, -1)) / q.shape[-1] ** 0.5
            weights = (logits + F.pad(bias, (1, 0))[None, :, None]).softmax(-1)
            shadow = shadow + tower.attention_output(block, weights @ values)
            shadow = shadow + tower.mlp(block, shadow)
            plain = tower.block(block, plain)
        results[image, region] = F.normalize(tower.project(shadow)[0, 0], dim=-1)
    return results


@torch.no_grad()
def test_equals_every_region_alone():
    tower, module, found = side_cases.tower(), classifier(), proposals()
    tokens = early(tower)
    ours = module.embed(found, tokens, tower)
    torch.testing.assert_close(ours, naive(module, found, tokens, tower), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_region_that_sees_no_patch_is_the_same_everywhere():
    """With a bias far below the token's own score every region answers alike, and so does one valid region among them."""
    tower, module, found = side_cases.tower(), classifier(), proposals()
    module.bias_scaling.weight.zero_()
    module.bias_scaling.bias.fill_(-1000)
    blind = module.embed(found, early(tower), tower)
    torch.testing.assert_close(blind, blind[:, :1].expand_as(blind))
    module.bias_scaling.bias.fill_(0.5)
    constant = module.embed(found, early(tower), tower)
    module.bias_scaling.bias.fill_(1.5)  # shifts patches against the token itself
    assert (module.embed(found, early(tower), tower) - constant).abs().max() > 1e-3


@torch.no_grad()
def test_one_region():
    tower, module = side_cases.tower(), classifier()
    all_of_them, found = proposals(), proposals()
    single = Proposals(found.masks[:, 2:3], found.embeddings[:, 2:3], found.pixels)
    together = module.embed(all_of_them, early(tower), tower)
    torch.testing.assert_close(
        module.embed(single, early(tower), tower), together[:, 2:3], rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_class_logits():
    module, text = classifier(), side_cases.words(4)
    embeddings = F.normalize(torch.randn(2, 5, side_cases.EMBED), dim=-1)
    words = ClassWords(text, torch.tensor([0, 1, 1, 2]), torch.zeros(3, dtype=torch.bool))
    logits = module.logits(embeddings, words)
    cosines = torch.stack(
        [F.cosine_similarity(embeddings, row.expand_as(embeddings), dim=-1) for row in text], -1
    )
    nothing = F.cosine_similarity(embeddings, module.nothing[0].expand_as(embeddings), dim=-1)
    expected = torch.stack(
        [cosines[..., 0], torch.maximum(cosines[..., 1], cosines[..., 2]), cosines[..., 3], nothing], -1
    )
    torch.testing.assert_close(logits, 20 * expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("missing", ["embeddings", "pixels"])
def test_proposals_without_a_part(missing):
    parts = {name: getattr(proposals(), name) for name in ("masks", "embeddings", "pixels")} | {missing: None}
    with pytest.raises(ValueError, match="need proposals with embeddings and the map"):
        classifier().bias(Proposals(**parts))


@torch.no_grad()
def test_bare_masks_are_the_bias():
    """A region whose mask touches some patches is read as if those were all that there is to look at."""
    tower, module, tokens = side_cases.tower(), classifier(), early(side_cases.tower())
    masks = torch.randn(2, 3, 11, 7) - 1.5
    masks[0, 0] = -9.0  # a region without a pixel looks at itself alone
    ours = module.embed(Proposals(masks), tokens, tower)
    assert ours.isfinite().all()
    for image, region in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        touched = pooled(masks[image, region]) > 0
        plain, shadow = tokens.tokens[image, None], tokens.tokens[image, None, :1]
        for block in range(EARLY, tower.depth):
            q, k, v = tower.qkv(block, tower.norm1(block, shadow))
            _, keys, values = tower.qkv(block, tower.norm1(block, plain))
            keys = torch.cat([k, keys[:, :, 1:][:, :, touched]], 2)
            values = torch.cat([v, values[:, :, 1:][:, :, touched]], 2)
            weights = (q @ keys.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
            shadow = shadow + tower.attention_output(block, weights @ values)
            shadow = shadow + tower.mlp(block, shadow)
            plain = tower.block(block, plain)
        alone = F.normalize(tower.project(shadow)[0, 0], dim=-1)
        torch.testing.assert_close(ours[image, region], alone, rtol=1e-4, atol=1e-5)
