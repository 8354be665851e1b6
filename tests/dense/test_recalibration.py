"""Recalibration around encoders: equations 9 to 13 on features, both forms, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.dense.recalibration import Recalibrated
from lexiseg.errors import ConfigError


@pytest.fixture
def tower(tiny_clip) -> VisionTower:
    return VisionTower(tiny_clip).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(1))


def words(count: int) -> Tensor:
    return F.normalize(torch.randn(count, 16, generator=torch.Generator().manual_seed(2)), dim=1)


def by_the_equations(
    features: Tensor, text: Tensor, strength: float, temperature: float, *, unit: bool
) -> Tensor:
    """TG-CLIP eq. 9 to 13 on ``(B, D, h, w)`` features."""
    rows = features.permute(0, 2, 3, 1)
    normal = rows / rows.norm(dim=-1, keepdim=True)  # (9)
    attention = torch.softmax(normal @ text.T / temperature, dim=-1)  # (10)
    pull = attention @ text  # (11)
    moved = (normal if unit else rows) + strength * pull  # (12)
    moved = moved / moved.norm(dim=-1, keepdim=True)
    return (moved @ text.T).permute(0, 3, 1, 2)  # (13)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("method", ["sclip", "sc-clip", "resclip"])
@pytest.mark.parametrize("count", [5, 16, 17, 600])
@pytest.mark.parametrize("unit", [True, False])
@torch.no_grad()
def test_equals_the_equations_for_few_and_many_words(
    tower, images, method: str, count: int, unit: bool
) -> None:
    encoder, text = build_dense(method, tower), words(count)
    tgr = Recalibrated(encoder, strength=0.6, temperature=0.3, unit_features=unit)
    features = encoder.features(encoder.encode(images), text)
    expected = by_the_equations(features, text, 0.6, 0.3, unit=unit)
    state = tgr.encode(images)
    torch.testing.assert_close(tgr.decode(state, text).logits, expected, rtol=1e-4, atol=1e-5)
    bound = tgr.bind(state, text)
    parts = torch.cat([tgr.decode(bound, part).logits for part in text.split(7)], dim=1)
    torch.testing.assert_close(parts, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tgr.features(state, text).norm(dim=1), torch.ones(2, 3, 5))


@torch.no_grad()
def test_no_strength_is_the_encoder_bit_for_bit(tower, images) -> None:
    encoder, text = build_dense("sc-clip", tower), words(6)
    tgr = Recalibrated(encoder, strength=0.0)
    state = tgr.encode(images)
    plain = encoder.decode(encoder.encode(images), text).logits
    assert torch.equal(tgr.decode(state, text).logits, plain)
    assert torch.equal(tgr.decode(tgr.bind(state, text), text).logits, plain)
    assert torch.equal(tgr.features(state, text), encoder.features(state))
    assert not tgr.depends_on_text
    assert Recalibrated(encoder).depends_on_text


@torch.no_grad()
def test_recalibration_moves_patches_towards_words(tower, images) -> None:
    encoder, text = build_dense("sclip", tower), words(6)
    state = encoder.encode(images)
    strong = Recalibrated(encoder, strength=50.0, temperature=0.01).decode(state, text).logits
    assert strong.amax(dim=1).min() > 0.9
    assert torch.equal(strong.argmax(dim=1), encoder.decode(state, text).logits.argmax(dim=1))


@pytest.mark.parametrize(
    ("method", "settings"), [("clip-surgery", {}), ("maskclip", {"smoothing_threshold": 0.5})]
)
def test_other_logits_are_refused(tower, method: str, settings: dict) -> None:
    with pytest.raises(
        ConfigError, match=r"needs logits that are cosines .* gives others\. Leave recalibration out"
    ):
        Recalibrated(build_dense(method, tower, **settings))


def test_plain_clip_surgery_is_welcome(tower) -> None:
    assert Recalibrated(build_dense("clip-surgery", tower, feature_surgery=False)).strength == 0.1


@pytest.mark.parametrize(
    ("strength", "temperature", "message"),
    [
        (-0.1, 2.0, "expected a strength of at least 0, got -0.1$"),
        (0.1, 0.0, "expected a temperature above 0, got 0.0$"),
    ],
)
def test_settings_out_of_range(tower, strength: float, temperature: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recalibrated(build_dense("sclip", tower), strength=strength, temperature=temperature)
