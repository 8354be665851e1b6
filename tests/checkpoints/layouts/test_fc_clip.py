"""The published layout of FC-CLIP: a place for each of its tensors, and for no other."""

import pytest
import torch

from lexiseg.checkpoints.layouts.fc_clip import (
    CLIP,
    clip_of_fc_clip,
    detect_fc_clip,
    fc_clip_layout,
    optional_shapes,
)
from lexiseg.checkpoints.published_rows import ANY
from lexiseg.errors import CheckpointError
from stage_towers import KINDS, fc_clip

each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_every_tensor_has_one_place_and_comes_back(kind, tiny_clip) -> None:
    model = fc_clip(kind, tiny_clip)
    layout, state = fc_clip_layout(model.settings, model.tower), model.state_dict()
    assert {ours for row in layout.rows for ours in row.ours} == state.keys()
    names = [row.name for row in layout.rows]
    assert len(set(names)) == len(names)
    published = layout.to_published(state)
    assert published.keys() == layout.live
    assert {name: tuple(tensor.shape) for name, tensor in published.items()} == {
        name: shape for name, shape in layout.shapes.items() if name in layout.live
    }
    again = layout.from_published(published)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)
    assert detect_fc_clip(published) == model.settings


@each_kind
def test_what_is_frozen_stands_there_and_not_here(kind, tiny_clip) -> None:
    model = fc_clip(kind, tiny_clip)
    rows = [row for row in fc_clip_layout(model.settings, model.tower).rows if row.name.startswith(CLIP)]
    assert rows
    assert not any(row.ours for row in rows)
    counters = sum(row.name.endswith("num_batches_tracked") for row in rows)
    assert counters == sum(row.name.endswith("running_mean") for row in rows)
    assert bool(counters) == (kind == "ResNet")


def test_queries_keys_and_values_are_one_tensor_there(tiny_clip) -> None:
    model = fc_clip("ConvNeXt", tiny_clip)
    published = fc_clip_layout(model.settings, model.tower).to_published(model.state_dict())
    joined = published["sem_seg_head.predictor.transformer_self_attention_layers.2.self_attn.in_proj_weight"]
    attention = model.proposer.transformer.decoder.layers[2].self_attn
    parts = [projection.weight for projection in (attention.q_proj, attention.k_proj, attention.v_proj)]
    assert torch.equal(joined, torch.cat(parts))


def test_what_a_file_may_hold_besides() -> None:
    found = {f"{CLIP}ln_final.weight": (24,), f"{CLIP}logit_scale": (), "criterion.empty_weight": (134,)}
    found[f"{CLIP}transformer.resblocks.3.ln_1.weight"] = (24,)
    shapes = optional_shapes(found)
    assert shapes["criterion.empty_weight"] == (ANY,)
    assert shapes[f"{CLIP}transformer.resblocks.3.attn.in_proj_weight"] == (72, 24)
    assert f"{CLIP}ln_final.bias" not in shapes
    assert optional_shapes({"other": (3,)}) == {}


def test_the_contained_clip_has_open_clips_names() -> None:
    state = {f"{CLIP}visual.conv1.weight": torch.ones(2), "void_embedding.weight": torch.ones(1)}
    assert clip_of_fc_clip(state).keys() == {"visual.conv1.weight"}


def test_another_checkpoint_is_refused() -> None:
    with pytest.raises(
        CheckpointError, match=r"expected the published layout of FC-CLIP .*; got decode_head.x, …"
    ):
        detect_fc_clip({"decode_head.x": torch.ones(1)})
