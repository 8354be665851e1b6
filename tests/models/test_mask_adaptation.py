"""CLIP learns masked regions: what trains in which step, and that the loss falls."""

import math

import pytest
import torch

from lexiseg.models.mask_adaptation import LARGEST_SCALE, MaskAdaptation
from lexiseg.ops.region_crops import not_filled
from lexiseg.training.optim import OptimSettings
from region_model_cases import tiny_tower

PAIRS = 5


def pairs(tower):
    torch.manual_seed(2)
    regions = torch.randn(PAIRS, 3, tower.image_size, tower.image_size)
    masks = torch.zeros(PAIRS, tower.image_size, tower.image_size, dtype=torch.bool)
    for index in range(PAIRS):
        masks[index, 4 * index : 4 * index + 14, 3 : 20 + 3 * index] = True
    texts = torch.randn(PAIRS, tower.embed_dim)
    return regions * masks[:, None], masks, texts


@pytest.mark.parametrize("part", ["tower", "prompts"])
def test_it_learns_and_the_given_tower_stays(part):
    tower = tiny_tower()
    before = {name: each.clone() for name, each in tower.state_dict().items()}
    model = MaskAdaptation(tower, part, prompt_depth=2, logit_scale=math.log(10))
    batch = pairs(tower)
    groups = model.parameter_groups(OptimSettings(weight_decay=0.2, decay_norms=False))
    optimizer = torch.optim.AdamW([{**group, "lr": 3e-3} for group in groups])
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model(*batch)
        loss.backward()
        optimizer.step()
        model.clamp_scale()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    for name, each in tower.state_dict().items():
        assert torch.equal(each, before[name])
    assert all(parameter.requires_grad for parameter in model.parameters()), "what is frozen is no part of it"
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "logit_scale" in trained
    assert any(name.startswith("learning.") for name in trained) == (part == "tower")
    assert ("prompts.tokens" in trained) == (part == "prompts")


def test_everything_of_the_tower_is_reached():
    tower = tiny_tower()
    model = MaskAdaptation(tower, "tower")
    model(*pairs(tower)).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize(("start", "kept"), [(7.0, LARGEST_SCALE), (-1.0, 0.0), (2.0, 2.0)])
def test_the_scale_stays_within_bounds(start, kept):
    model = MaskAdaptation(tiny_tower(), "prompts", logit_scale=start)
    model.clamp_scale()
    assert model.logit_scale.item() == pytest.approx(kept)


def test_masks_of_stored_pictures():
    tower = tiny_tower()
    pictures = torch.tensor([124.0, 116, 103]).view(1, 3, 1, 1).repeat(2, 1, 40, 40)
    pictures[:, :, 8:21, 5:33] = torch.rand(2, 3, 13, 28) * 90
    masks = not_filled(pictures)
    assert masks.sum((1, 2)).tolist() == [13 * 28] * 2
    model = MaskAdaptation(tower, "prompts", prompt_depth=1)
    assert model(pictures / 255, masks, torch.randn(2, 16)).isfinite()
