"""A ConvNeXt's one dense reading: the contract, what is refused, and a photograph segmented from the shell."""

import importlib.resources

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

import convnext_files as files
import dense_cases as cases
from lexiseg.clip.formats.open_clip import convnext_from_open_clip
from lexiseg.clip.towers.convnext import ConvNextTower
from lexiseg.dense import build_dense
from lexiseg.dense.base import cosines
from lexiseg.dense.pixelclip import PixelCLIPReading
from lexiseg.dense.registry import BLOCKLESS_READINGS, dense_settings
from lexiseg.dense.tower_reading import TowerReading
from lexiseg.errors import ConfigError
from openai_files import openai_state


@pytest.fixture
def state(tiny_clip):
    return files.convnext_state(openai_state(tiny_clip))


@pytest.fixture
def tower(state) -> ConvNextTower:
    return ConvNextTower(convnext_from_open_clip(state, text_heads=2, image_size=64)).eval()


@torch.no_grad()
def test_contract(tower, state) -> None:
    encoder = build_dense("clip", tower)
    assert encoder.patch_size == 32
    images, words = torch.randn(3, 3, 64, 96), cases.some_words()
    logits = encoder(images, words)
    assert logits.shape == (3, 7, 2, 3)
    expected = cosines(files.naive_head(state, files.naive_map(state, images)), words)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(images[1:2], words)[0], logits[1], rtol=1e-4, atol=1e-5)
    own = {id(parameter) for parameter in tower.parameters()}
    assert {id(parameter) for parameter in encoder.parameters()} == own
    bound = encoder.bind(encoder.encode(images), words)
    torch.testing.assert_close(encoder.decode(bound, words[2:5]).logits, logits[:, 2:5])


@pytest.mark.parametrize("name", cases.PATCH_METHODS)
def test_methods_that_need_attention_are_refused(name: str, tower) -> None:
    if name in BLOCKLESS_READINGS:
        assert type(build_dense(name, tower)) is (PixelCLIPReading if name == "pixelclip" else TowerReading)
        return
    with pytest.raises(ConfigError, match=f"^{name} reads the attention of a ViT.* choose the method clip"):
        build_dense(name, tower)


def test_settings_of_a_vit_are_no_settings_here(tower) -> None:
    with pytest.raises(ConfigError, match="clip has no setting 'window'"):
        build_dense("clip", tower, window=3)
    assert dense_settings("clip", tower) == {}


@pytest.mark.parametrize("head", [None, 19])
def test_predict_with_a_file(tmp_path, monkeypatch, head: int | None, capsys) -> None:
    """The toy CLIP's words beside a random ConvNeXt: labels mean nothing, but every part takes part."""
    from lexiseg.cli.main import main

    toy = str(importlib.resources.files("lexiseg") / "assets" / "toy_clip")
    state = files.convnext_state(openai_state(CLIPModel.from_pretrained(toy)), hidden=head)
    torch.save(state, tmp_path / "convnext.pt")
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"vision_cfg": {"image_size": 64}}}')
    photo = np.random.default_rng(0).integers(0, 255, (53, 97, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    flags = ["--clip", str(tmp_path / "convnext.pt"), "--tokenizer", toy, "--out", str(tmp_path / "out")]
    command = ["predict", str(tmp_path / "photo.png"), "--classes", "red circle, blue square", *flags]
    assert main(command) == 0
    labels = next((tmp_path / "out").rglob("*labels*.png"))
    assert np.asarray(Image.open(labels)).shape[:2] == (53, 97)
    assert main([*command, "--method", "naclip"]) == 2
    assert "naclip reads the attention of a ViT" in " ".join("".join(capsys.readouterr()).split())
