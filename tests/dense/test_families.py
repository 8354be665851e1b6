"""Every reading on every family of towers: what makes sense works, what does not says so in one sentence."""

import pytest
import torch
import torch.nn.functional as F

import dense_cases
import family_cases as cases
from lexiseg.clip.loading import load_clip
from lexiseg.dense import build_dense
from lexiseg.dense.base import cosines
from lexiseg.dense.methods import build_method, default_method
from lexiseg.dense.registry import dense_settings
from lexiseg.errors import ConfigError

NEEDS_CLASS_TOKEN = {
    "sc-clip": ("class_share", 0),
    "clip-surgery": ("feature_surgery", False),
    "corrclip": ("semantic_share", 0),
}


@pytest.fixture(scope="module", params=cases.CASES)
def tower(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    cases.saved(request.param, folder)
    return load_clip(folder).tower


def images() -> torch.Tensor:
    return dense_cases.some_images()


def words(tower) -> torch.Tensor:
    return F.normalize(torch.randn(7, tower.embed_dim, generator=torch.Generator().manual_seed(2)), dim=1)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", dense_cases.PATCH_METHODS)
@torch.no_grad()
def test_readings(name: str, tower) -> None:
    settings = {}
    if name in NEEDS_CLASS_TOKEN and not tower.has_class_token:
        setting, without = NEEDS_CLASS_TOKEN[name]
        with pytest.raises(
            ConfigError, match=rf"class token, and the image tower \({tower.kind}\) has none; set {setting}="
        ):
            build_dense(name, tower)
        settings = {setting: without}
    encoder = dense_cases.make_encoder(name, tower, **settings)
    text = words(tower)
    together = encoder(images(), text)
    assert together.shape[:2] == (3, 7)
    assert together.shape[2] / together.shape[3] == 3 / 7
    assert torch.isfinite(together).all()
    alone = encoder(images()[1:2], text)
    torch.testing.assert_close(alone[0], together[1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_clip_is_the_towers_own_reading_where_it_has_one(tower) -> None:
    encoder = build_dense("clip", tower)
    if tower.takes_prompts:  # CLIP's own dense_features is PixelCLIP's
        return
    expected = tower.dense_features(images())
    torch.testing.assert_close(encoder.encode(images()).features, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_plain_attention_of_every_reading_leaves_the_prefix_out(tower) -> None:
    """One block as transformers runs it, then patches alone: as ``clip`` must read it, whatever stands before them."""
    *_, last = tower.block_tokens(images())
    expected = tower.project(last).transpose(1, 2).unflatten(2, (3, 7))
    mode = tower.position_mode or "bicubic"
    found = build_dense("clip", tower, position_mode=mode).encode(images()).features
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_maskclip_gives_every_patch_its_own_value(tower) -> None:
    mode = tower.position_mode or "bicubic"
    encoder = build_dense("maskclip", tower, position_mode=mode)
    tokens = encoder.run_to_last(images())[:, tower.prefix_tokens :]
    layer = tower.depth - 1
    alone = tokens.flatten(0, 1)[:, None]  # a patch that is alone attends to itself only
    expected = tower.project(tower.block(layer, alone)).reshape(3, 3, 7, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(encoder.encode(images()).features, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_window_of_one_patch_is_maskclip(tower) -> None:
    """A window mask of the wrong width, or over the wrong columns, would not end there."""
    narrow = build_dense("clip", tower, window=1)
    mask = build_dense("maskclip", tower, position_mode=narrow.position_mode)
    found, expected = (each.encode(images()).features for each in (narrow, mask))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_colors_are_the_towers_own(tower) -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    scaled = torch.tensor([0.0, 1.0, 0.2])
    expected = (scaled - torch.tensor(tower.mean)) / torch.tensor(tower.std)
    torch.testing.assert_close(build_dense("clip", tower).normalize(pixels).flatten(), expected)


def test_positions_are_resized_as_the_tower_does_unless_told(tower) -> None:
    own = tower.position_mode
    for name, published in (("clip", "bicubic_offset"), ("gem", "bicubic_antialias")):
        assert dense_settings(name, tower)["position_mode"] == (own or published)
        assert build_dense(name, tower).position_mode == (own or published)
    assert build_dense("clip", tower, position_mode="bilinear").position_mode == "bilinear"
    assert build_dense("resclip", tower).position_mode == (own or "bicubic_offset")


def test_the_reading_taken_where_none_is_named(tower) -> None:
    name = default_method(tower)
    assert name == ("sc-clip" if tower.takes_prompts else "clip")
    assert build_method(name, tower).name == name


@torch.no_grad()
def test_cosines_need_the_towers_own_width(tower) -> None:
    state = build_dense("clip", tower).encode(images())
    assert cosines(state.features, words(tower)).shape == (3, 7, 3, 7)
