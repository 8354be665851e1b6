"""Every tensor of LSeg has one place in the published layout, whose sizes tell the settings again."""

import pytest
import torch

import program_cases
from lexiseg.checkpoints.layouts.lseg import clip_of_lseg, detect_lseg, lseg_layout
from lexiseg.errors import CheckpointError
from lexiseg.models.registry import build_model, complete_settings

EMBED = 13
RESNET = {"encoder": "resnet", "stem": 8, "stages": [8, 20, 24, 28], "depths": [2, 1, 3, 1], "features": 11}
CASES = {
    "vit": program_cases.SMALL_LSEG | {"block": "bottleneck"},
    "resnet": RESNET,
}
FULL = {"vit": {}, "resnet": {"encoder": "resnet"}}
"""As released: built on the meta device."""

CLIP = {"logit_scale": (), "text_projection": (32, EMBED), "visual.proj": (24, EMBED)}


class Tower(torch.nn.Module):
    def __init__(self, embed_dim):
        super().__init__()
        self.embed_dim = embed_dim


def build(settings, embed_dim=EMBED):
    return build_model({"name": "lseg", **settings}, Tower(embed_dim))


@pytest.mark.parametrize("kind", CASES)
def test_every_tensor_has_one_place_and_comes_back(kind):
    model = build(CASES[kind])
    layout = lseg_layout(model.settings, EMBED, clip=CLIP)
    names = [row.name for row in layout.rows]
    assert len(set(names)) == len(names)
    assert all(name.startswith("net.") for name in names)
    assert sum(name.startswith("net.clip_pretrained.") for name in names) == len(CLIP)
    state = model.state_dict()
    assert {ours for row in layout.rows for ours in row.ours} == state.keys()
    published = layout.to_published(state)
    assert published.keys() == layout.live
    assert all(tuple(published[name].shape) == layout.shapes[name] for name in published)
    again = layout.from_published(published)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize("kind", FULL)
def test_sizes_tell_the_settings_of_the_full_models(kind):
    with torch.device("meta"):
        model = build(FULL[kind], 512)
    layout = lseg_layout(model.settings, 512)
    published = {
        name: torch.empty([max(n, 1) for n in shape], device="meta") for name, shape in layout.shapes.items()
    }
    assert detect_lseg(published) == complete_settings({"name": "lseg", **FULL[kind]})
    state = model.state_dict()
    ours = layout.from_published(published)
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in state.items()}


@pytest.mark.parametrize("kind", CASES)
def test_sizes_tell_the_settings_of_small_models(kind):
    model = build(CASES[kind])
    published = {
        name: torch.empty([max(n, 1) for n in shape])
        for name, shape in lseg_layout(model.settings, EMBED).shapes.items()
    }
    heads = CASES[kind].get("heads")
    assert detect_lseg(published, heads=heads) == complete_settings({"name": "lseg", **CASES[kind]})


def test_queries_keys_and_values_are_one_tensor_there():
    model = build(CASES["vit"])
    published = lseg_layout(model.settings, EMBED, prefix="").to_published(model.state_dict())
    parts = [
        model.state_dict()[f"encoder.network.encoder.layer.2.attention.attention.{part}.weight"]
        for part in ("query", "key", "value")
    ]
    assert torch.equal(published["pretrained.model.blocks.2.attn.qkv.weight"], torch.cat(parts))


def test_the_clip_inside_and_other_files():
    state = {"net.clip_pretrained.logit_scale": torch.tensor(4.6), "net.scratch.x": torch.zeros(1)}
    assert list(clip_of_lseg(state)) == ["logit_scale"]
    with pytest.raises(
        CheckpointError, match="expected the published layout of LSeg .*; got net.clip_pretrained"
    ):
        detect_lseg(state)


@pytest.mark.parametrize("claimed", [10**9, "9" * 5000, "x"])
def test_a_number_that_a_name_claims_makes_no_rows(claimed):
    """Four blocks of which one is called the billionth are four: the check of keys says what is wrong."""
    model = build(CASES["vit"])
    published = {
        name.replace("blocks.3.", f"blocks.{claimed}."): torch.empty([max(n, 1) for n in shape])
        for name, shape in lseg_layout(model.settings, EMBED).shapes.items()
    }
    found = detect_lseg(published, heads=CASES["vit"]["heads"])
    assert tuple(found["taps"]) == tuple(model.settings.taps)
