"""What patches attend to: against a soft-max written out, and SCLIP's own reading of the last block."""

import pytest
import torch
from transformers import CLIPModel

from lexiseg.analysis.point_attention import point_attention
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.dense.base import finish_block
from support import tiny_clip_config

PATCHES = [(2, 6), (0, 1)]


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return VisionTower(CLIPModel(tiny_clip_config(depth=3))).eval()


@torch.no_grad()
def entering(tower, images):
    tokens = tower.embed(images, position_mode="bicubic_offset")
    for index in range(2):
        tokens = tower.block(index, tokens)
    return tokens


@torch.no_grad()
def test_clips_attention_is_the_softmax_of_its_queries_and_keys(tower):
    images = torch.randn(1, 3, 24, 56)
    found = point_attention(tower, images, PATCHES)
    assert {name: tuple(maps.shape) for name, maps in found.items()} == {"CLIP": (2, 3, 7), "CSA": (2, 3, 7)}
    query, key, _ = tower.qkv(2, tower.norm1(2, entering(tower, images)))
    scores = (query @ key.mT) * query.shape[-1] ** -0.5
    whole = (scores.exp() / scores.exp().sum(-1, keepdim=True))[0].mean(0)
    for place, (row, column) in enumerate(PATCHES):
        token = 1 + 7 * row + column
        torch.testing.assert_close(found["CLIP"][place].flatten(), whole[token, 1:], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_correlative_attention_is_that_of_sclip(tower, monkeypatch):
    """Values that mark one patch come out of SCLIP's block as its share of attention, twice the mean of the two maps."""
    images = torch.randn(1, 3, 24, 56)
    maps = point_attention(tower, images, PATCHES)["CSA"]
    encoder, marked = build_dense("sclip", tower), 1 + 7 * 1 + 3
    attended, own = [], tower.value

    def mark(index, normed):
        if index < 2:
            return own(index, normed)
        value = torch.zeros_like(tower.key(index, normed))
        value[:, :, marked] = 1
        return value

    monkeypatch.setattr(tower, "value", mark)
    monkeypatch.setattr(
        "lexiseg.dense.sclip.finish_block",
        lambda tower, heads, *rest, **settings: (
            attended.append(heads) or finish_block(tower, heads, *rest, **settings)
        ),
    )
    encoder.encode(images)
    shares = attended[0][0, :, :, 0].mean(0) / 2
    for place, (row, column) in enumerate(PATCHES):
        torch.testing.assert_close(maps[place, 1, 3], shares[7 * row + column])
