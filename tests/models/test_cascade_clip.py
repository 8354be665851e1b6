"""Cascade-CLIP as a whole, and its parts by hand."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import ConfigError
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from lexiseg.models.neighborhood_gaussian_aggregation import NeighborhoodGaussianAggregation
from lexiseg.models.registry import build_model, model_settings
from lexiseg.models.relationship_descriptor import relationship_descriptor
from lexiseg.models.text_image_decoder import CrossAttention, TextImageDecoder
from lexiseg.models.visual_prompts import VisualPrompts
from lexiseg.ops.gaussian import neighborhood_weights
from lexiseg.training.optim import OptimSettings
from support import tiny_clip_config

SETTINGS = CascadeSettings(stages=((1,), (2, 3), (4, 5)), prompt_length=3, decoder_heads=2, decoder_layers=2)


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return VisionTower(CLIPModel(tiny_clip_config(depth=5)))


@pytest.fixture
def model(tower):
    torch.manual_seed(1)
    return CascadeCLIP(tower, SETTINGS)


def text(classes=7, width=16):
    return F.normalize(torch.randn(classes, width), dim=-1)


def test_gaussian_weights_by_hand():
    expected = [math.exp(-2.0), math.exp(-0.5), 1.0]
    torch.testing.assert_close(neighborhood_weights(3), torch.tensor(expected))
    paper = [math.exp(-4.5), math.exp(-2.0), math.exp(-0.5)]
    torch.testing.assert_close(neighborhood_weights(3, form="paper"), torch.tensor(paper))
    wide = [math.exp(-0.5), math.exp(-0.125), 1.0]
    torch.testing.assert_close(neighborhood_weights(3, sigma=2.0), torch.tensor(wide))


def test_aggregation_is_a_weighted_sum():
    aggregation = NeighborhoodGaussianAggregation(2)
    maps = [torch.full((1, 1, 2, 3), 2.0), torch.full((1, 1, 2, 3), 5.0)]
    torch.testing.assert_close(aggregation(maps), torch.full((1, 1, 2, 3), 2 * math.exp(-0.5) + 5))
    assert NeighborhoodGaussianAggregation(1)(maps[:1]) is maps[0]
    assert not NeighborhoodGaussianAggregation(2, trained=False).weights.requires_grad
    with pytest.raises(ValueError, match="features of 2 blocks, got 1"):
        aggregation(maps[:1])


def test_relationship_descriptor_by_hand():
    out = relationship_descriptor(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[10.0, 20.0]]))
    assert out.tolist() == [[[10.0, 40.0, 1.0, 2.0], [30.0, 80.0, 3.0, 4.0]]]


def test_similarity_is_the_mean_over_heads():
    attention = CrossAttention(12, 3, 0.0)
    queries, patches = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    q = attention.q(queries).view(2, 5, 3, 4).transpose(1, 2)
    k = attention.k(patches).view(2, 7, 3, 4).transpose(1, 2)
    expected = (q @ k.transpose(2, 3) / math.sqrt(4)).mean(1)
    torch.testing.assert_close(attention.similarity(queries, patches), expected)


def test_decoder_layers_start_equal():
    decoder = TextImageDecoder(12, heads=3, layers=3)
    first, second = (dict(layer.named_parameters()) for layer in decoder.layers)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["attention.q.weight"], decoder.last.q.weight)


def test_shapes_and_sum_of_stages(model):
    model.eval()
    out = model(torch.randn(2, 3, 24, 56), text())
    assert out.logits.shape == (2, 7, 3, 7)
    assert len(out.stage_logits) == 3
    torch.testing.assert_close(out.logits, sum(out.stage_logits))


@torch.no_grad()
def test_a_stage_alone_answers_what_it_adds_to_the_whole(model):
    model.eval()
    images, words = torch.randn(2, 3, 24, 56), text()
    whole = model(images, words)
    for index, blocks in enumerate(SETTINGS.stages):
        alone = model.stage_alone(index)
        assert alone.settings.stages == (blocks,)
        torch.testing.assert_close(alone(images, words).logits, whole.stage_logits[index])
        assert alone.prompts is model.prompts
    assert len(model.stages) == len(model.settings.stages) == 3, "the model is what it was"


def test_batch_one_equals_batch_two(model):
    model.eval()
    images, words = torch.randn(2, 3, 24, 56), text()
    both = model(images, words).logits
    torch.testing.assert_close(
        both, torch.cat([model(i[None], words).logits for i in images]), rtol=1e-4, atol=1e-5
    )


def test_classes_do_not_see_each_other(model, monkeypatch):
    model.eval()
    images, words = torch.randn(1, 3, 24, 40), text(11)
    together = model(images, words)
    monkeypatch.setattr("lexiseg.models.cascade_clip._QUERY_CHUNK", 4)
    chunked = model.decode(model.encode(images), words)
    torch.testing.assert_close(chunked.logits, together.logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(chunked.stage_logits[1], together.stage_logits[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("projection", ["random", "clip", "trained"])
def test_gradient_reaches_every_trainable_and_no_frozen_parameter(tower, projection):
    settings = CascadeSettings(
        stages=((1,), (2, 3), (4, 5)),
        prompt_length=3,
        decoder_heads=2,
        decoder_layers=2,
        projection=projection,
    )
    model = CascadeCLIP(tower, settings).train()
    model(torch.randn(2, 3, 24, 40), text()).logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert all(parameter.grad is None for parameter in tower.parameters())
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert bool(frozen) == (projection == "random")


def test_random_projections_are_in_the_state_dict_and_the_tower_is_not(model):
    names = model.state_dict().keys()
    assert "stages.0.projections.1.projection.weight" in names
    assert not any("vision" in name for name in names)
    moved = model.to(torch.float64)
    assert moved.tower.vision.embeddings.class_embedding.dtype == torch.float64


def test_training_moves_no_frozen_parameter(tower):
    model = CascadeCLIP(tower, SETTINGS).train()
    before = {name: p.clone() for name, p in (*tower.named_parameters(), *model.named_parameters())}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(torch.randn(2, 3, 24, 40), text()).logits.square().sum().backward()
    optimizer.step()
    for name, parameter in (*tower.named_parameters(), *model.named_parameters()):
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


def test_parameter_count_of_the_published_voc_model():
    """ViT-B/16, 10 prompts: 40.09 M trainable in the released layout, 22.75 M of them reached by a gradient."""
    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=16,
        projection_dim=512,
    )
    tower = VisionTower(CLIPVisionModelWithProjection(config))
    model = CascadeCLIP(tower, CascadeSettings(unused_parameters=True)).train()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trainable.values()) == 40_094_982
    model(torch.randn(1, 3, 32, 48), text(3, 512)).logits.square().sum().backward()
    assert sum(p.numel() for p in trainable.values() if p.grad is not None) == 22_748_934
    lean = CascadeCLIP(tower, CascadeSettings())
    assert sum(p.numel() for p in lean.parameters() if p.requires_grad) == 22_748_934


def test_prompts_by_hand(model):
    model.eval()
    tokens = torch.randn(2, 1 + 15, 24)
    inserted = model.prompts.insert(tokens, 0)
    expected = model.prompts.projection(model.prompts.tokens[0])
    assert inserted.shape == (2, 1 + 3 + 15, 24)
    torch.testing.assert_close(inserted[1, 1:4], expected)
    replaced = model.prompts.insert(inserted, 2)
    assert replaced.shape == inserted.shape
    torch.testing.assert_close(replaced[:, 4:], tokens[:, 1:])
    torch.testing.assert_close(replaced[1, 1:4], model.prompts.projection(model.prompts.tokens[2]))
    assert not torch.allclose(replaced[:, 1:4], inserted[:, 1:4]), "every block has prompts of its own"
    bound = math.sqrt(6 / (3 * 8**2 + 24))
    assert model.prompts.tokens.abs().max() <= bound


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("imagenet", ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        ("clip", ((0.5, 0.4, 0.3), (0.6, 0.7, 0.8))),
    ],
)
def test_colours_are_imagenets_or_the_towers_own(normalization, expected):
    own = VisionTower(CLIPModel(tiny_clip_config(depth=5)), colors=((0.5, 0.4, 0.3), (0.6, 0.7, 0.8)))
    model = CascadeCLIP(own, dataclasses.replace(SETTINGS, normalization=normalization))
    images = 255 * torch.rand(2, 3, 5, 7)
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in expected)
    torch.testing.assert_close(model.normalize(images), (images - mean) / std)


def test_settings_round_trip(model, tower):
    again = build_model(model_settings(model), tower)
    assert again.settings == model.settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": ((6,), (7,))}, "names block 6, 7, but this CLIP has blocks 1 to 5"),
        ({"stages": ()}, "expected lists of block numbers"),
        ({"stages": ((5,),), "decoder_heads": 5}, "decoder_heads=5 does not divide the 16 channels"),
        (
            {"stages": ((5,),), "projection": "other"},
            "projection: expected one of random, clip, trained, got 'other'",
        ),
    ],
)
def test_impossible_settings(tower, settings, message):
    with pytest.raises(ConfigError, match=message):
        CascadeCLIP(tower, CascadeSettings(**({"decoder_heads": 2} | settings)))


def test_registry_errors(tower):
    with pytest.raises(
        ConfigError, match="one of cascade_clip, zegclip, frozen_clip, spt_seg, .*got 'cascade'"
    ):
        build_model({"name": "cascade"}, tower)
    with pytest.raises(ConfigError, match="no setting stage"):
        build_model({"name": "cascade_clip", "stage": 3}, tower)


def test_prompts_start_within_their_bound():
    """For 8 pixels and 24 channels: sqrt(6 / (3 * 64 + 24)) = 1/6."""
    torch.manual_seed(0)
    tokens = VisualPrompts(depth=5, width=24, patch_size=8, length=11).tokens
    assert tokens.abs().max() <= 1 / 6
    assert tokens.abs().max() > 0.99 / 6
    assert tokens.mean().abs() < 0.01


def test_settings_of_the_aggregation_reach_every_stage(tower):
    settings = dataclasses.replace(
        SETTINGS, aggregation_sigma=3.0, aggregation_form="paper", aggregation_trained=False
    )
    alone, *stages = CascadeCLIP(tower, settings).stages
    assert alone.aggregation.weights is None
    for stage in stages:
        expected = [math.exp(-(2**2) / 18), math.exp(-1 / 18)]
        torch.testing.assert_close(stage.aggregation.weights.detach(), torch.tensor(expected))
        assert not stage.aggregation.weights.requires_grad
    assert CascadeCLIP(tower, SETTINGS).stages[1].aggregation.weights.requires_grad


def test_the_prompts_alone_learn_at_the_rate_of_prompts(model):
    """The norm beside them, whose name begins alike, does not."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = model.parameter_groups(OptimSettings(lr=1e-2, prompt_lr_scale=0.1))
    slow = {names[id(p)] for group in groups if group["lr"] == pytest.approx(1e-3) for p in group["params"]}
    assert slow == {"prompts.tokens", "prompts.projection.weight", "prompts.projection.bias"}
    assert "prompt_norm.weight" in names.values()
