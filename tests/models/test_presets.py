"""ZegCLIP, the model without prompts and SPT-SEG, each with and without the cascade."""

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import program_cases
from lexiseg.checkpoints.training_file import CheckpointInfo, check_same
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.models.registry import build_model, complete_settings, model_settings
from lexiseg.models.spectral_filter import SpectralFilter
from lexiseg.models.spectral_guided_decoder import HighLowFrequencyAttention, SpectralGuidedDecoder
from lexiseg.types import ClassSplit

BASES = ["zegclip", "frozen_clip", "spt_seg"]
LAST = [[3]]
CASCADE = [[1], [2], [3]]


@pytest.fixture
def tower(tiny_clip):
    return VisionTower(tiny_clip)


def build(tower, name, stages=LAST, **settings):
    torch.manual_seed(3)
    chosen = {"prompt_length": 2, "decoder_heads": 2, "decoder_layers": 2, "spectral_grid": 5}
    return build_model({"name": name, "stages": stages, **chosen, **settings}, tower)


def words(classes=7):
    return F.normalize(torch.randn(classes, 16), dim=-1)


@pytest.mark.parametrize("stages", [LAST, CASCADE], ids=["base", "cascade"])
@pytest.mark.parametrize("name", BASES)
def test_shapes_and_batches(tower, name, stages):
    model = build(tower, name, stages).eval()
    images, text = torch.randn(2, 3, 24, 56), words()
    with torch.no_grad():
        both = model(images, text)
        alone = torch.cat([model(image[None], text).logits for image in images])
    assert both.logits.shape == (2, 7, 3, 7)
    assert len(both.stage_logits) == len(stages)
    torch.testing.assert_close(both.logits, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.logits, sum(both.stage_logits))


@pytest.mark.parametrize("stages", [LAST, CASCADE], ids=["base", "cascade"])
@pytest.mark.parametrize("name", BASES)
def test_gradient_reaches_every_trainable_and_no_frozen_parameter(tower, name, stages):
    model = build(tower, name, stages).train()
    for (
        parameter
    ) in model.parameters():  # a gate whose prompt points away from every patch would pass no gradient
        if parameter.ndim == 1 and len(parameter) == 16:
            parameter.data.add_(0.3 * torch.randn(16))
    model(torch.randn(2, 3, 40, 56), words()).logits.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    assert all(parameter.grad is None for parameter in tower.parameters())


def test_zegclip_is_the_cascade_of_one_stage(tower):
    zeg, cascade = build(tower, "zegclip"), build(tower, "cascade_clip")
    cascade.load_state_dict(zeg.state_dict())
    images, text = torch.randn(1, 3, 24, 40), words()
    assert torch.equal(zeg.eval()(images, text).logits, cascade.eval()(images, text).logits)


def test_without_prompts_the_tower_is_clips_own(tower, tiny_clip):
    model = build(tower, "frozen_clip").eval()
    assert not any("prompt" in name for name in model.state_dict())
    images = torch.randn(1, 3, 24, 40)
    tokens = tower.embed(images, position_mode="bilinear", class_embedding_twice=True)
    for index in range(tower.depth):
        tokens = tower.block(index, tokens)
    expected = F.normalize(tower.project(tokens), dim=-1)
    state = model.encode(images)
    torch.testing.assert_close(state.cls, expected[:, 0])
    torch.testing.assert_close(state.stages[0].flatten(2).transpose(1, 2), expected[:, 1:])


@pytest.mark.parametrize("name", program_cases.CASCADES)
def test_settings_round_trip(tower, name):
    model = build(tower, name)
    again = build_model(model_settings(model), tower)
    assert type(again) is type(model)
    assert again.settings == model.settings


def test_a_checkpoint_older_than_a_setting_is_the_same_model():
    old = {"name": "cascade_clip", "stages": [[1], [2]], "prompt_length": 4}
    info = CheckpointInfo(old, {"source": "x", "fingerprint": "f"}, ("{}",), ClassSplit("s", ("a",)), {})
    check_same(info, model=complete_settings(old), fingerprint="f", path="p")
    with pytest.raises(CheckpointError, match="prompts: checkpoint deep, now none"):
        check_same(info, model=complete_settings(old | {"prompts": "none"}), fingerprint="f", path="p")


def test_spectral_filter_by_hand():
    """A flat response multiplies: x + w * (x * cls); beyond the second block nothing happens."""
    module = SpectralFilter(3, side=4)
    module.weight.data = torch.tensor([2.0, 0.0]).expand(4, 3, 3, 2).clone()
    for grid in ((4, 4), (3, 5), (7, 2)):
        tokens = torch.randn(2, 1 + 6 + grid[0] * grid[1], 3)
        for index in (0, 1):
            out = module(tokens, index, grid)
            patches = tokens[:, 7:]
            torch.testing.assert_close(out[:, 7:], patches * (1 + 2 * tokens[:, :1]), rtol=1e-5, atol=1e-5)
            assert torch.equal(out[:, :7], tokens[:, :7])
        assert torch.equal(module(tokens, 2, grid), tokens)


def test_spectral_gate_closes_on_patches_that_point_away():
    split = HighLowFrequencyAttention(16, 8)
    features = torch.randn(2, 16, 5, 7)
    tokens = split(features)
    assert tokens.shape == (2, 35, 16)
    split.prompt.data.neg_()
    other = split(features)
    closed = (tokens == 0).all(-1)
    assert torch.equal(closed, ~(other == 0).all(-1))
    assert 0 < closed.sum() < closed.numel()


def test_high_frequencies_stay_within_their_window():
    split = HighLowFrequencyAttention(16, 8)
    features = torch.randn(1, 16, 6, 9)
    changed = features.clone()
    changed[0, :, 4, 7] += 1
    moved = (split._high(changed) - split._high(features)).abs().sum((0, 1)) > 1e-6
    assert moved[3:, 6:].all()
    assert not moved[:3].any()
    assert not moved[:, :6].any()


def test_spectral_decoder_layers_start_equal():
    decoder = SpectralGuidedDecoder(16, heads=8, layers=3)
    first, second = (dict(layer.named_parameters()) for layer in decoder.layers)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["split.low_q.weight"], decoder.last.low_q.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": "shallow"}, "model.prompts: expected one of deep, none, spectral, got 'shallow'"),
        ({"decoder": "other"}, "model.decoder: expected one of attention, spectral, got 'other'"),
        ({"decoder": "spectral", "decoder_heads": 1}, "expected at least 2, got 1"),
        ({"spectral_grid": 0}, "model.spectral_grid: expected from 1 to 1024, got 0"),
    ],
)
def test_impossible_settings(tower, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(tower, "zegclip", **settings)


def test_parameter_count_of_the_published_voc_zegclip():
    """ViT-B/16, 10 prompts: 13.82 M trainable in the released layout, 8.04 M of them reached by a gradient."""
    config = CLIPVisionConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=16,
        projection_dim=512,
    )
    with torch.device("meta"):
        tower = VisionTower(CLIPVisionModelWithProjection(config))
        counts = {}
        for unused in (True, False):
            model = build_model({"name": "zegclip", "unused_parameters": unused}, tower)
            counts[unused] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counts[True] == pytest.approx(13.82e6, abs=5e3)
    assert counts[False] == pytest.approx(8.04e6, abs=5e3)
