"""MaskFormer's proposals: shapes, what trains, every layer's answer, full sizes."""

import math

import pytest
import torch

from lexiseg.errors import ConfigError
from lexiseg.models.proposers.maskformer import MaskFormer, MaskFormerSettings
from region_model_cases import SIZES, SWIN

KINDS = {"resnet": SIZES, "swin": SIZES | SWIN}


def proposer(kind="resnet", **changes):
    torch.manual_seed(0)
    return MaskFormer(MaskFormerSettings(**KINDS[kind] | changes)).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_proposals(kind):
    model, images = proposer(kind), torch.randn(2, 3, 64, 96)
    found = model(images, every_layer=True)
    assert found.masks.shape == (2, 7, 16, 24)
    assert found.embeddings.shape == (2, 7, 20)
    assert found.pixels.shape == (2, 12, 16, 24)
    assert len(found.earlier) == 2
    for one in (*found.earlier, found):
        assert one.embeddings.mean(-1).abs().max() < 1e-5, "every layer's queries are normed"
    assert not torch.allclose(found.earlier[0].masks, found.masks)
    alone = model(images[1:])
    assert not alone.earlier
    torch.testing.assert_close(alone.masks, found.masks[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_trains_is_reached(kind):
    model = proposer(kind).train()
    found = model(torch.randn(1, 3, 64, 64), every_layer=True)
    sum((each.masks**2).sum() for each in (*found.earlier, found)).backward()
    assert not [name for name, each in model.named_parameters() if each.grad is None]


def test_it_trains_after_it_was_asked_in_inference_mode():
    """Positions are kept between calls of one size; they must not be an inference tensor."""
    model, images = proposer().train(), torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        model(images)
    model(images).masks.sum().backward()


def test_decoder_layer_by_layer():
    """DETR's decoder, post-norm, with torch's own attention; each layer's answer is normed, what it passes on is not."""
    model = proposer()
    part, coarse = model.transformer, torch.randn(2, 128, 2, 3)
    with torch.no_grad():  # a fresh norm leaves what is normed already as it is
        for each in part.decoder.layernorm.parameters():
            each.copy_(torch.randn(20))
    memory = (part.input_projection(coarse)).flatten(2).transpose(1, 2)
    positions = sine(2, 3, 20)
    identities = part.queries_embedder.weight.expand(2, -1, -1)
    queries = torch.zeros_like(identities)
    for layer, found in zip(part.decoder.layers, model.queries(coarse), strict=True):
        attended = attention(layer.self_attn, queries + identities, queries + identities, queries)
        queries = layer.self_attn_layer_norm(queries + attended)
        attended = attention(layer.encoder_attn, queries + identities, memory + positions, memory)
        queries = layer.encoder_attn_layer_norm(queries + attended)
        hidden = layer.mlp.fc2(layer.mlp.fc1(queries).relu())
        queries = layer.final_layer_norm(queries + hidden)
        torch.testing.assert_close(found, part.decoder.layernorm(queries), rtol=1e-4, atol=1e-5)


def attention(part, query, key, value):
    """Five heads, one at a time."""
    query, key, value = part.q_proj(query), part.k_proj(key), part.v_proj(value)
    heads = [
        (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        for q, k, v in zip(query.chunk(5, -1), key.chunk(5, -1), value.chunk(5, -1), strict=True)
    ]
    return part.o_proj(torch.cat(heads, dim=-1))


def sine(height, width, channels):
    """DETR's positions ``(h*w, channels)``, rows first, counted from 1 and scaled to a full turn."""
    half = channels // 2
    out = torch.zeros(height * width, channels)
    for place in range(height * width):
        row, column = divmod(place, width)
        turns = ((row + 1) / (height + 1e-6), (column + 1) / (width + 1e-6))
        for axis, turn in enumerate(turns):
            for index in range(half):
                angle = 2 * math.pi * turn / 10000 ** (2 * (index // 2) / half)
                wave = math.cos(angle) if index % 2 else math.sin(angle)
                out[place, axis * half + index] = wave
    return out


def test_a_map_as_wide_as_the_queries_is_not_projected():
    model = proposer(query_width=128, query_heads=4)
    assert model.transformer.input_projection is None
    assert model(torch.randn(1, 3, 64, 96)).masks.shape == (1, 7, 16, 24)


def test_dropout_is_asked():
    model = proposer(query_dropout=0.5).train()
    images = torch.randn(1, 3, 64, 96)
    assert not torch.equal(model(images).masks, model(images).masks)
    model.eval()
    assert torch.equal(model(images).masks, model(images).masks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_width": 48}, "model.feature_width: expected a multiple of 32, got 48"),
        ({"query_width": 36, "query_heads": 8}, "model.query_width: expected a multiple of 8, got 36"),
        ({"query_width": 18, "query_heads": 2}, "model.query_width: expected a multiple of 4, got 18"),
        ({"queries": 0}, "model.queries: expected at least 1"),
    ],
    ids=str,
)
def test_settings_that_fit_no_network(changes, message):
    with pytest.raises(ConfigError, match=message):
        MaskFormerSettings(**SIZES | changes)


@pytest.mark.parametrize(
    ("settings", "millions"),
    [
        # ResNet-50 without its classifier has 23.508 M, of which 0.053 M are batch norms, buffers here.
        (MaskFormerSettings(), {"backbone": 23.455}),
        # Swin-B of window 12 has 86.878584 M; its last norm (2 × 1024) is left out, and the maps' four come in (2 × 1920).
        (
            MaskFormerSettings(backbone="swin", backbone_width=128, backbone_depths=(2, 2, 18, 2)),
            {"backbone": 86.880376},
        ),
    ],
    ids=["resnet50", "swin_b"],
)
def test_full_sizes(settings, millions):
    with torch.device("meta"):
        model = MaskFormer(settings)
    for name, expected in millions.items():
        count = sum(each.numel() for each in model.get_submodule(name).parameters())
        assert count / 1e6 == pytest.approx(expected, abs=5e-4), name
    assert len(model.transformer.decoder.layers) == 6
    assert model.transformer.queries_embedder.weight.shape == (100, 256)
