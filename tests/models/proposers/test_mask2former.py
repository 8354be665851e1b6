"""The proposer's frame around transformers' decoders; their numbers are in ``tests/golden``."""

import pytest
import torch

from lexiseg.errors import ConfigError
from lexiseg.models.proposers.mask2former import Mask2Former, Mask2FormerSettings
from stage_towers import SMALL

CHANNELS = (5, 7, 11, 13)
SETTINGS = Mask2FormerSettings(**SMALL)


def maps(count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    sizes = ((24, 40), (12, 20), (6, 10), (3, 5))
    return [
        torch.randn(count, channels, *size, generator=generator)
        for channels, size in zip(CHANNELS, sizes, strict=True)
    ]


@torch.no_grad()
def test_every_prediction_reads_its_masks_from_the_pixels() -> None:
    torch.manual_seed(0)
    proposer = Mask2Former(CHANNELS, SETTINGS).eval()
    found = proposer(maps())
    assert len(found.earlier) == SETTINGS.decoder_layers
    embedder = proposer.transformer.decoder.mask_predictor.mask_embedder
    for each in (*found.earlier, found):
        assert each.masks.shape == (2, 7, 24, 40)
        assert each.embeddings.shape == (2, 7, 32)
        torch.testing.assert_close(
            each.masks, torch.einsum("bnc,bchw->bnhw", embedder(each.embeddings), each.pixels)
        )
    start = proposer.transformer.decoder.layernorm(proposer.transformer.queries_features.weight)
    torch.testing.assert_close(found.earlier[0].embeddings, start.expand(2, -1, -1))


@torch.no_grad()
def test_start_values_are_mask2formers() -> None:
    torch.manual_seed(0)
    proposer = Mask2Former(CHANNELS, SETTINGS)
    attention = proposer.pixel_decoder.encoder.layers[1].self_attn
    offsets = attention.sampling_offsets.bias.view(4, 3, 4, 2)
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])  # four heads: right, down, left, up
    for point in range(4):
        torch.testing.assert_close(
            offsets[:, :, point], directions[:, None].expand(4, 3, 2) * (point + 1), rtol=1e-5, atol=1e-5
        )
    assert not attention.sampling_offsets.weight.any()
    assert not attention.attention_weights.weight.any()
    layer = proposer.transformer.decoder.layers[0]
    joint = layer.cross_attn.in_proj_weight.abs().max()  # Xavier of a matrix of (3 · 32, 32)
    assert joint == pytest.approx((6 / (4 * 32)) ** 0.5, rel=2e-2)
    assert layer.self_attn.k_proj.weight.abs().max() == pytest.approx(joint.item(), rel=2e-2)
    assert not layer.self_attn.q_proj.bias.any()
    assert proposer.pixel_decoder.level_embed.std() == pytest.approx(1, abs=0.3)
    assert proposer.pixel_decoder.input_projections[0][0].bias.any() == torch.tensor(False)


@torch.no_grad()
def test_pixels_are_computed_in_float32_under_mixed_precision() -> None:
    torch.manual_seed(0)
    proposer = Mask2Former(CHANNELS, SETTINGS).eval()
    given = maps()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = proposer(given)
    assert mixed.pixels.dtype == torch.float32
    torch.testing.assert_close(mixed.pixels, proposer(given).pixels)


def test_a_tower_of_other_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="strides 4, 8, 16 and 32; this image tower has 3 stages"):
        Mask2Former((5, 7, 11), SETTINGS)


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.width: expected at least 32, got 16"):
        Mask2FormerSettings(width=16)
