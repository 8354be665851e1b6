"""The one table of the published layout: for every model it has a place for each of its tensors, and for no other."""

import pytest
import torch

import program_cases
from lexiseg.checkpoints.published_layout import PROMPTS, published_layout
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError
from lexiseg.models.registry import build_model

SMALL = {"prompt_length": 2, "decoder_heads": 8, "spectral_grid": 5}


def build(tiny_clip, name, stages, **settings):
    torch.manual_seed(1)
    tower = VisionTower(tiny_clip)
    model = build_model({"name": name, "stages": stages, **SMALL, **settings}, tower)
    return model, published_layout(model.settings, tower)


@pytest.mark.parametrize("unused", [True, False], ids=["as released", "lean"])
@pytest.mark.parametrize("stages", [[[3]], [[1, 2], [3]], [[1], [2], [3]]], ids=str)
@pytest.mark.parametrize("name", program_cases.CASCADES)
def test_every_tensor_has_one_place_and_comes_back(tiny_clip, name, stages, unused):
    model, layout = build(tiny_clip, name, stages, decoder_layers=2, unused_parameters=unused)
    state = model.state_dict()
    assert {ours for row in layout.rows for ours in row.ours} == state.keys()
    names = [row.name for row in layout.rows]
    assert len(set(names)) == len(names)
    published = layout.to_published(state)
    assert published.keys() == layout.live
    assert {key: tuple(tensor.shape) for key, tensor in published.items()} == {
        key: shape for key, shape in layout.shapes.items() if key in layout.live
    }
    again = layout.from_published(published)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_prompts_are_cut_and_projections_stacked(tiny_clip):
    model, layout = build(tiny_clip, "cascade_clip", [[1, 2], [3]], decoder_layers=1)
    state = model.state_dict()
    published = layout.to_published(state)
    assert torch.equal(published[PROMPTS[0]], state["prompts.tokens"][:1])
    assert torch.equal(published[PROMPTS[1]], state["prompts.tokens"][1:])
    second = published["backbone.proj_layers"][1]
    assert torch.equal(second, state["stages.0.projections.2.projection.weight"].T)


def test_a_tensor_without_a_place_is_named(tiny_clip):
    model, layout = build(tiny_clip, "zegclip", [[3]], decoder_layers=1)
    with pytest.raises(CheckpointError, match="no place for extra, other; it holds"):
        layout.to_published(model.state_dict() | {"other": torch.ones(1), "extra": torch.ones(1)})
