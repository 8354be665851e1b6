"""The aggregations of table 8 beside NGA, and shared queries, by hand."""

import pytest
import torch
from transformers import CLIPModel

from lexiseg.checkpoints.published_layout import published_layout
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.models.block_aggregation import build_aggregation
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from support import tiny_clip_config

KINDS = ("gaussian", "sum", "concat", "attention")
WIDTH, GRID = 5, (2, 3)


def _layers(blocks=3, batch=2):
    return [torch.randn(batch, WIDTH, *GRID) for _ in range(blocks)]


def test_sum_adds_and_trains_on_demand():
    layers = _layers()
    fixed, trained = (build_aggregation("sum", 3, WIDTH, trained=t) for t in (False, True))
    torch.testing.assert_close(fixed(layers), layers[0] + layers[1] + layers[2])
    assert [p.requires_grad for m in (fixed, trained) for p in m.parameters()] == [False, True]


def test_concat_starts_as_the_mean_and_is_linear_in_every_block():
    layers = _layers()
    aggregation = build_aggregation("concat", 3, WIDTH)
    torch.testing.assert_close(aggregation(layers), torch.stack(layers).mean(0))
    torch.nn.init.normal_(aggregation.projection.weight)
    weight = aggregation.projection.weight.view(WIDTH, 3, WIDTH)
    naive = sum(torch.einsum("oi,bihw->bohw", weight[:, i], layer) for i, layer in enumerate(layers))
    torch.testing.assert_close(aggregation(layers), naive)


def test_attention_runs_over_the_blocks_of_one_patch():
    layers = _layers()
    aggregation = build_aggregation("attention", 3, WIDTH)
    out = aggregation(layers)
    tokens = torch.stack([layer[1, :, 0, 2] for layer in layers])  # image 1, one patch: (d, E)
    scores = aggregation.q(tokens) @ aggregation.k(tokens).T / WIDTH**0.5
    expected = (tokens + scores.softmax(-1) @ aggregation.v(tokens)).mean(0)
    torch.testing.assert_close(out[1, :, 0, 2], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_one_block_passes_through(kind):
    aggregation = build_aggregation(kind, 1, WIDTH)
    (layer,) = _layers(1)
    assert aggregation([layer]) is layer
    assert not list(aggregation.parameters())


@pytest.fixture
def tower():
    torch.manual_seed(0)
    return VisionTower(CLIPModel(tiny_clip_config(depth=5)))


def _model(tower, **changes):
    torch.manual_seed(1)
    return CascadeCLIP(
        tower, CascadeSettings(stages=((1,), (2, 3), (4, 5)), prompt_length=3, decoder_heads=2, **changes)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_aggregation_trains_in_the_model(tower, kind):
    model = _model(tower, aggregation=kind)
    images, text = torch.randn(2, 3, 16, 24), torch.nn.functional.normalize(torch.randn(7, 16), dim=-1)
    model(images, text).logits.sum().backward()
    trained = [p for s in model.stages for p in s.aggregation.parameters()]
    assert trained
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)


def test_shared_queries_are_one_projection_for_all_stages(tower):
    model = _model(tower, queries="shared")
    own = _model(tower)
    ours, theirs = (
        {name for name, _ in m.named_parameters() if "query_projection" in name} for m in (model, own)
    )
    assert ours == {"query_projection.weight", "query_projection.bias"}
    assert len(theirs) == 6
    for stage in own.stages:
        stage.query_projection.load_state_dict(model.query_projection.state_dict())
    shared = {k: v for k, v in model.state_dict().items() if not k.startswith("query_projection")}
    own.load_state_dict(shared, strict=False)
    images, text = torch.randn(1, 3, 16, 24), torch.nn.functional.normalize(torch.randn(7, 16), dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images, text).logits, own.eval()(images, text).logits)


@pytest.mark.parametrize("changes", [{"queries": "shared"}, {"aggregation": "concat"}])
def test_the_published_layout_refuses_what_it_has_no_place_for(tower, changes):
    model = _model(tower, **changes)
    with pytest.raises(CheckpointError, match="no place for"):
        published_layout(model.settings, tower).to_published(model.state_dict())


@pytest.mark.parametrize(("key", "value"), [("aggregation", "mean"), ("queries", "both")])
def test_unknown_choices_are_named(key, value):
    with pytest.raises(ConfigError, match=f"model.{key}: expected one of .* got '{value}'"):
        CascadeSettings(**{key: value})
