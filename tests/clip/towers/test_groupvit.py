"""GroupViT's towers, from a hub folder and from the release's file, and what may read them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from groupvit_files import HEADS, groupvit, original_state, saved
from lexiseg.clip.loading import load_clip
from lexiseg.clip.saving import save_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense import DENSE_ENCODERS, build_dense
from lexiseg.dense.methods import default_method
from lexiseg.dense.registry import OWN_READINGS
from lexiseg.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("groupvit")
    saved(place)
    return place


@pytest.fixture(scope="module")
def clip(folder):
    return load_clip(folder)


def images(height: int = 24, width: int = 56) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_at_its_native_size_it_is_transformers(clip) -> None:
    model, batch = groupvit(), images(40, 40)
    found = clip.tower.groups(batch)
    theirs = model.vision_model(batch, output_attentions=True, return_dict=True)
    torch.testing.assert_close(found.image, model.visual_projection(theirs.pooler_output))
    torch.testing.assert_close(
        found.embeddings[1], model.visual_projection(theirs.last_hidden_state[1]), rtol=1e-4, atol=1e-5
    )
    first, second = theirs.attentions
    torch.testing.assert_close(found.maps.flatten(2), second @ first)
    assert clip.logit_scale == pytest.approx(clip.tower.logit_scale) == pytest.approx(np.exp(3.1))


@torch.no_grad()
def test_other_sizes_and_batches(clip) -> None:
    together, alone = clip.tower.groups(images()), clip.tower.groups(images()[1:])
    assert together.maps.shape == (2, 3, 3, 7)
    for ours, single in zip(vars(together).values(), vars(alone).values(), strict=True):
        torch.testing.assert_close(ours[1:], single, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.maps.sum(dim=1), torch.ones(2, 3, 7))
    features = clip.tower.dense_features(images())
    owner = together.maps.argmax(dim=1)
    assert torch.equal(features[1, :, 2, 5], together.embeddings[1, owner[1, 2, 5]])
    with pytest.raises(
        ConfigError, match=r"20×56 pixels is no multiple of the patch size 8; pad it to 24×56"
    ):
        clip.tower(images(20))


@torch.no_grad()
def test_surroundings_in_training_draw_no_noise(clip) -> None:
    expected = clip.tower(images())
    surrounding = torch.nn.ModuleList([clip.tower]).train()
    assert torch.equal(surrounding[0](images()), expected)


def test_scale_is_clamped() -> None:
    from lexiseg.clip.towers.groupvit import GroupVitTower

    model = groupvit()
    model.logit_scale.data.fill_(5.0)
    assert GroupVitTower(model).logit_scale == 100.0


@torch.no_grad()
def test_sentences_are_averaged_before_they_have_unit_length(clip) -> None:
    templates = ("{}", "a photo of the {} .")
    found = Vocabulary((("red",),), templates).embed(clip).vectors
    raw = clip.text_tower.encode_raw(["red", "a photo of the red ."])
    torch.testing.assert_close(found, F.normalize(raw.mean(dim=0, keepdim=True), dim=1))
    unit = F.normalize(clip.text_tower.encode(["red", "a photo of the red ."]).mean(dim=0), dim=0)
    assert (found[0] - unit).abs().max() > 1e-4


def test_the_releases_file_is_the_same_clip(clip, tmp_path) -> None:
    state = original_state(groupvit())
    assert "img_encoder.layers.0.blocks.1.attn.qkv.weight" in state
    assert "img_encoder.layers.1.downsample.pre_assign_attn.attn.proj.bias" in state
    extra = {"multi_label_logit_scale": torch.tensor(1.0)}
    torch.save({"model": state | extra, "epoch": 30}, tmp_path / "group_vit.pth")
    again = load_clip(tmp_path / "group_vit.pth", vision_heads=HEADS, text_heads=2)
    assert again.fingerprint == clip.fingerprint
    torch.testing.assert_close(again.tower(images()), clip.tower(images()))
    assert again.tower.mean == pytest.approx((0.485, 0.456, 0.406))


@pytest.mark.parametrize(
    ("gone", "there", "message"),
    [
        ("img_encoder.norm.weight", {}, "missing: vision_model.layernorm.weight"),
        (None, {"img_encoder.extra.weight": torch.zeros(3)}, "unknown: img_encoder.extra.weight"),
        (None, {"img_encoder.norm.bias": torch.zeros(3)}, r"wrong shape: .*layernorm.bias: expected \(24,\)"),
        ("text_encoder.positional_embedding", {}, "missing: text_encoder.positional_embedding"),
        ("img_encoder.layers.0.group_token", {}, "missing: img_encoder.layers.0.group_token"),
    ],
)
def test_every_key_is_accounted_for(tmp_path, gone, there, message) -> None:
    state = {name: tensor for name, tensor in original_state(groupvit()).items() if name != gone} | there
    torch.save({"model": state}, tmp_path / "group_vit.pth")
    with pytest.raises(CheckpointError, match=message):
        load_clip(tmp_path / "group_vit.pth", vision_heads=HEADS, text_heads=2)


def test_saved_again_it_is_the_same_clip(clip, tmp_path) -> None:
    save_clip(clip, tmp_path)
    again = load_clip(tmp_path)
    assert (again.fingerprint, again.tower.logit_scale) == (clip.fingerprint, clip.tower.logit_scale)


def test_its_own_method_alone_reads_it(clip, tiny_clip) -> None:
    from lexiseg.clip.towers.vit import VisionTower

    assert default_method(clip.tower) == "groupvit"
    for name in set(DENSE_ENCODERS) - set(OWN_READINGS):
        with pytest.raises(
            ConfigError, match=rf"^{name} reads patches one by one.*choose the method groupvit"
        ):
            build_dense(name, clip.tower)
    with pytest.raises(
        ConfigError, match=r"^groupvit reads the groups .* \(ViT\) makes none; give a GroupViT"
    ):
        build_dense("groupvit", VisionTower(tiny_clip))
    for settings, message in (
        ({"top": 0}, "top of at least 1 word, got 0"),
        ({"background_threshold": 1.5}, "background_threshold from 0 to 1, got 1.5"),
        ({"window": 3}, "groupvit has no setting 'window'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_dense("groupvit", clip.tower, **settings)


@torch.no_grad()
def test_reading(clip) -> None:
    text = F.normalize(torch.randn(7, 16, generator=torch.Generator().manual_seed(2)), dim=1)
    reading = build_dense("groupvit", clip.tower, top=2)
    state = reading.encode(images())
    logits = reading.decode(state, text).logits
    assert logits.shape == (2, 7, 24, 56)
    assert len(logits[0].flatten(1).unique(dim=1).T) <= 3  # as many columns as groups
    assert torch.equal(reading.features(state), clip.tower.dense_features(images()))
    told = build_dense("groupvit", clip.tower, top=2, background_threshold=1.0)(images(), text)
    changed = torch.cat([text.flip(0)[:1], text[1:]])  # the first word is never looked at
    again = build_dense("groupvit", clip.tower, top=2, background_threshold=1.0)(images(), changed)
    assert torch.equal(told, again)
    assert set(told[:, 0].unique().tolist()) <= {0.0, 1.0}
    best = told[:, 1:].amax(dim=1).flatten(1)
    assert ((told[:, 0].flatten(1) == 1) == (best < best.amax(dim=1, keepdim=True))).all()
    with pytest.raises(ConfigError, match="first word as the background, and there is no other"):
        build_dense("groupvit", clip.tower, background_threshold=0.9)(images(), text[:1])


def test_predict_from_the_shell(clip, tmp_path, monkeypatch, capsys) -> None:
    from lexiseg.cli.main import main

    photo = np.random.default_rng(0).integers(0, 255, (53, 97, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    words = ["--classes", "red circle, blue square", "--clip", clip.source]
    command = ["predict", str(tmp_path / "photo.png"), *words, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    labels = next((tmp_path / "out").rglob("*labels*.png"))
    assert np.asarray(Image.open(labels)).shape[:2] == (53, 97)
    assert main([*command, "--method", "sclip"]) == 2
    assert "choose the method groupvit" in " ".join("".join(capsys.readouterr()).split())
    assert main(["compare", str(tmp_path / "photo.png"), *words, "--out", str(tmp_path / "compared")]) == 0
    told = "".join(capsys.readouterr())
    assert "│ groupvit " in told
    assert "sclip" not in told
