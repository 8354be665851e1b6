"""Mask prompt tokens: a naive second reading of CLIP, and towers that cannot take them."""

import pytest
import torch

from lexiseg.errors import ConfigError
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from region_model_cases import tiny_tower

SIDE, PATCH = 40, 8
DEPTH = 2


@pytest.fixture(scope="module")
def tower():
    return tiny_tower()


def prompts(tower, depth=DEPTH):
    torch.manual_seed(3)
    model = MaskPrompts(tower, depth)
    model.start()
    with torch.no_grad():
        model.tokens.mul_(20)
    return model


def regions(count=3):
    torch.manual_seed(4)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    masks[0, 3:17, 5:30] = True
    masks[1, 39, 39] = True
    return torch.randn(count, 3, SIDE, SIDE) * masks[:, None], masks


def naive(tower, model, picture, mask):
    """One picture, with transformers' own layers."""
    vision = tower.vision
    embeddings = vision.embeddings
    patches = embeddings.patch_embedding(picture[None]).flatten(2)[0].T  # (P, D)
    keep = [
        bool(mask[i : i + PATCH, j : j + PATCH].any())
        for i in range(0, SIDE, PATCH)
        for j in range(0, SIDE, PATCH)
    ]

    def replaced(rows, depth):
        return torch.stack(
            [
                row if kept else model.tokens[depth, p]
                for p, (row, kept) in enumerate(zip(rows, keep, strict=True))
            ]
        )

    tokens = torch.cat([embeddings.class_embedding[None], replaced(patches, 0)])
    tokens = vision.pre_layrnorm(tokens + embeddings.position_embedding.weight)[None]
    for index, layer in enumerate(vision.encoder.layers):
        tokens = layer(tokens, attention_mask=None)
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        if index + 1 < len(model.tokens):
            tokens = torch.cat([tokens[:, :1], replaced(tokens[0, 1:], index + 1)[None]], dim=1)
    return tower.visual_projection(vision.post_layernorm(tokens[:, 0]))[0]


def test_equals_a_naive_second_reading(tower):
    model = prompts(tower)
    pictures, masks = regions()
    found = model(tower, pictures, masks)
    for picture, mask, vector in zip(pictures, masks, found, strict=True):
        torch.testing.assert_close(vector, naive(tower, model, picture, mask), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, tower(pictures), atol=1e-2), "the tokens make a difference"


def test_a_region_that_fills_every_patch_is_read_as_any_picture(tower):
    pictures, _ = regions()
    whole = torch.ones(3, SIDE, SIDE, dtype=torch.bool)
    torch.testing.assert_close(prompts(tower)(tower, pictures, whole), tower(pictures), rtol=1e-4, atol=1e-5)


def test_one_region_is_a_batch_of_one(tower):
    model, (pictures, masks) = prompts(tower), regions()
    together = model(tower, pictures, masks)
    torch.testing.assert_close(model(tower, pictures[:1], masks[:1]), together[:1], rtol=1e-4, atol=1e-5)


def test_gradients_reach_tokens_that_stand_for_something(tower):
    model, (pictures, masks) = prompts(tower), regions()
    model(tower, pictures[1:2], masks[1:2]).sum().backward()
    reached = model.tokens.grad.abs().sum(-1) > 0
    assert reached[:, :-1].all()
    assert not reached[:, -1].any(), "the last patch holds the region's only pixel"
    assert not [each for each in tower.parameters() if each.grad is not None]


def test_it_starts_at_zero_until_it_is_tuned(tower):
    model = MaskPrompts(tower, 3)
    assert model.tokens.shape == (3, 25, 24)
    assert not model.tokens.any()
    model.start()
    assert model.tokens.std().item() == pytest.approx(0.02, rel=0.1)


def test_towers_that_cannot_take_them(tower):
    with pytest.raises(ConfigError, match="at most the tower's 3 blocks, got 4"):
        MaskPrompts(tower, 4)

    class Other:
        kind, takes_prompts = "ConvNeXt", False

    with pytest.raises(ConfigError, match="needs a CLIP with a ViT; got a ConvNeXt"):
        MaskPrompts(Other(), 1)
    Other.kind = "ViT"
    with pytest.raises(ConfigError, match="set model.prompt_depth=0"):
        MaskPrompts(Other(), 1)
