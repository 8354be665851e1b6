"""``lexiseg compare`` with the toy CLIP: one picture per photograph, whatever a method or a photograph refuses."""

import argparse
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from transformers import ViTConfig, ViTModel

from dense_cases import PATCH_METHODS
from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.cli import compare
from lexiseg.cli.parsers.compare import COMMAND
from lexiseg.clip import vocabulary
from lexiseg.clip.loading import load_clip
from lexiseg.data.io import read_image
from lexiseg.data.toy.world import ToyWorld
from lexiseg.dense.multi_view import SINGLE_VIEW
from lexiseg.dense.names import METHODS, TG_CLIP, TG_CLIP_TEXT
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.models.registry import build_model
from lexiseg.recipes import compare as recipe
from lexiseg.types import ClassSplit
from tiny_sams import tiny_sam

WORDS = "red circle, bricks, grass, water"
OF_PATCHES = (*PATCH_METHODS, TG_CLIP, TG_CLIP_TEXT)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def scene():
    return ToyWorld(partition="val", length=1, seed=3, image_size=(56, 72))[0].image


@pytest.fixture
def photo(tmp_path, scene):
    Image.fromarray(scene).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


@pytest.fixture
def proxy(tmp_path):
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, patch_size=8
    )
    ViTModel(config).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


@pytest.fixture
def command(tmp_path):
    """Runs ``compare`` with the toy CLIP; returns exit status and what was printed."""

    def run(*flags):
        parser = argparse.ArgumentParser()
        COMMAND.add_to(parser.add_subparsers())
        args = parser.parse_args(
            ["compare", *map(str, flags), "--clip", "toy", "--out", str(tmp_path / "out"), "--device", "cpu"]
        )
        console = Console(width=300, record=True, force_terminal=False, file=io.StringIO())
        return compare.run(args, console), console.export_text()

    return run


def lines_of(printed, names):
    return {
        name: next((row for row in printed.splitlines() if row.startswith(f"│ {name} ")), "")
        for name in names
    }


@pytest.mark.slow
def test_a_few_methods(command, photo, tmp_path, monkeypatch):
    loads, embeds = [], []
    load, embed = recipe.load_clip, vocabulary.embed_words
    monkeypatch.setattr(recipe, "load_clip", lambda *a, **k: loads.append(1) or load(*a, **k))
    monkeypatch.setattr(vocabulary, "embed_words", lambda *a: embeds.append(a[2]) or embed(*a))
    status, printed = command(photo, "--classes", WORDS, "--methods", "sclip, gem,sc-clip")
    assert status == 0
    assert len(loads) == 1
    assert len(embeds) == len(set(embeds)) == 2, "sclip and sc-clip share their templates"
    rows = lines_of(printed, ["sclip", "gem", "sc-clip"])
    assert all("%" in row for row in rows.values())
    assert "56x72 pixels (height x width)" in printed
    assert "1 of 1 photographs compared" in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scene_compare.png"]
    with Image.open(tmp_path / "out" / "scene_compare.png") as picture:
        # Four panels of five times the scene, in one row, over the legend.
        assert picture.width > 4 * 5 * 72
        assert 5 * 56 < picture.height < 2 * 5 * 56


def test_all_methods(command, photo, proxy, tmp_path):
    tiny_sam().save_pretrained(tmp_path / "sam")
    flags = ["--templates", "single", "--proxy", proxy, "--masks", "superpixels", "--sam", tmp_path / "sam"]
    status, printed = command(photo, "--classes", WORDS, *flags)
    assert status == 0
    assert all("%" in row for row in lines_of(printed, OF_PATCHES).values())
    assert "left out" not in printed
    with Image.open(tmp_path / "out" / "scene_compare.png") as picture:
        assert 4 * 360 < picture.width < 5 * 360
        rows = -(-(len(OF_PATCHES) + 1) // 4)  # the photograph stands first
        assert rows * 280 < picture.height < (rows + 1) * (280 + 32)  # with captions and a legend


@pytest.mark.parametrize(
    ("text", "proxy", "expected"),
    [
        (
            "all",
            None,
            tuple(name for name in OF_PATCHES if name not in ("proxyclip", "corrclip", "lavg", "trident")),
        ),
        ("all", "folder", tuple(name for name in OF_PATCHES if name not in ("corrclip", "lavg", "trident"))),
        ("tg-clip,clip , clip", None, ("tg-clip", "clip")),
        ("proxyclip", None, ("proxyclip",)),
    ],
)
def test_names(text, proxy, expected):
    assert compare.choose_methods(text, proxy=proxy) == expected


@pytest.mark.parametrize(
    ("text", "proxy", "message"),
    [
        ("sclip,tgclip", None, "no training-free method 'tgclip'; give all, or some of clip, maskclip"),
        ("sclip,all", None, "no training-free method 'all'"),
        (" , ", None, "--methods names no method; give all, or some of"),
        ("sclip", "folder", "--proxy is for proxyclip, corrclip or trident, and --methods names sclip"),
    ],
)
def test_wrong_names_stop_before_anything_is_loaded(command, photo, monkeypatch, text, proxy, message):
    monkeypatch.setattr(recipe, "load_clip", lambda *_, **__: pytest.fail("loaded"))
    flags = [] if proxy is None else ["--proxy", proxy]
    with pytest.raises(ConfigError, match=message):
        command(photo, "--classes", "grass", "--methods", text, *flags)


def test_no_method_and_no_trained_model(command, photo, monkeypatch):
    monkeypatch.setattr(recipe, "load_clip", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match="--methods none shows a trained model alone.*--checkpoint"):
        command(photo, "--classes", "grass", "--methods", "none")


def test_what_all_does_without():
    lines = []
    compare.choose_methods("all", proxy=None, told=lines.append)
    assert "proxyclip is left out: it needs a second vision model; name one by --proxy" in lines
    assert (
        "corrclip is left out: it needs a second vision model and masks; name them by --proxy and --masks"
        in lines
    )
    assert (
        "trident is left out: it needs a second vision model and a SAM; name them by --proxy and --sam"
        in lines
    )
    for name, clip in (("groupvit", "nvidia/groupvit-gcc-yfcc"), ("sam3", "facebook/sam3")):
        assert any(line.startswith(f"{name} takes part with") and clip in line for line in lines)
    assert "trident" in compare.choose_methods("all", proxy="folder", sam="folder")
    with pytest.raises(ConfigError, match="--sam is for trident, and --methods names sclip"):
        compare.choose_methods("sclip", proxy=None, sam="folder")
    assert "corrclip" in compare.choose_methods("all", proxy="folder", masks="superpixels")
    with pytest.raises(ConfigError, match="--masks is for lavg or corrclip, and --methods names sclip"):
        compare.choose_methods("sclip", proxy=None, masks="superpixels")


def test_masks_that_are_nowhere_stop_before_anything_is_loaded(command, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "load_clip", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match="--masks: expected a folder"):
        command(photo, "--classes", "grass", "--methods", "corrclip", "--masks", tmp_path / "gone")


def test_a_method_inside_masks_is_left_out_without_any(command, photo):
    flags = ["--classes", "grass, water", "--templates", "single", "--methods", "clip,corrclip"]
    status, printed = command(photo, *flags)
    assert status == 0
    assert (
        "corrclip is left out: corrclip reads a photograph inside masks, and got none; name some by --masks"
        in printed
    )


def test_a_second_model_that_cannot_be_had(command, photo, tmp_path):
    flags = [photo, "--classes", WORDS, "--templates", "single", "--proxy", tmp_path]
    status, printed = command(*flags, "--methods", "clip,proxyclip")
    assert status == 0
    assert "proxyclip is left out: " in printed
    assert "not a usable Hugging Face model folder" in printed
    with pytest.raises(ConfigError, match="no method is left to compare"):
        command(*flags, "--methods", "proxyclip")


def test_broken_photographs_are_skipped(command, photo, tmp_path):
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:200])
    status, printed = command(
        tmp_path / "broken.png", tmp_path / "gone.png", photo, "--classes", WORDS,
        "--methods", "clip", "--templates", "single",
    )  # fmt: skip
    assert status == 1
    assert "broken.png is damaged or cut short" in printed
    assert "no file at" in printed
    assert "1 of 3 photographs compared" in printed
    assert (tmp_path / "out" / "scene_compare.png").is_file()


def test_background_and_many_classes(command, photo, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(f"thing {index}" for index in range(300)))
    status, printed = command(
        photo, "--classes-file", tmp_path / "words.txt", "--background", "grass, sand",
        "--methods", "clip,maskclip", "--templates", "single",
    )  # fmt: skip
    assert status == 0
    assert "and 288 more; its answer for that means nothing" in printed
    assert (tmp_path / "out" / "scene_compare.png").is_file()


def test_a_word_too_long_is_one_error_not_a_refusal_of_every_method(command, photo, capsys):
    with pytest.raises(LexisegError, match=r"the class name 'zzzz.*…' \(500 characters\).* at most 77"):
        command(photo, "--classes", "z" * 500)


@pytest.fixture
def checkpoint(tmp_path):
    settings = {
        "name": "cascade_clip", "stages": ((3, 4), (11, 12)), "prompt_length": 2,
        "decoder_layers": 1, "decoder_heads": 2,
    }  # fmt: skip
    clip = load_clip("toy")
    info = CheckpointInfo(
        model=settings,
        clip={"source": "toy", "fingerprint": clip.fingerprint},
        templates=("a {}",),
        split=ClassSplit("s", ("grass", "water"), ("water",)),
        protocol={"short_side": 48, "seen_penalty": 0.1},
    )
    weights = build_model(settings, clip.vision).state_dict()
    (tmp_path / "mine").mkdir()
    torch.save({"state_dict": weights, "lexiseg": info.to_dict()}, tmp_path / "mine" / "best.ckpt")
    return tmp_path / "mine" / "best.ckpt"


def test_a_trained_model_beside_a_method(command, photo, checkpoint):
    status, printed = command(
        photo, "--classes", WORDS, "--methods", "clip", "--templates", "single", "--checkpoint", checkpoint
    )
    assert status == 0
    assert "trained: mine" in printed


@pytest.mark.slow
def test_stages_of_a_cascade_beside_the_whole_and_the_truth(command, photo, checkpoint, tmp_path):
    ids = np.full((56, 72), 255, dtype=np.uint8)
    ids[:, 30:] = 1
    Image.fromarray(ids).save(tmp_path / "truth.png")
    flags = ("--classes", WORDS, "--methods", "none", "--checkpoint", checkpoint, "--stages")
    status, printed = command(photo, *flags)
    assert status == 0
    assert all(lines_of(printed, ["blocks 3-4 alone", "blocks 11-12 alone", "trained: mine"]).values())
    without = read_image(tmp_path / "out" / "scene_compare.png").shape
    assert command(photo, *flags, "--truth", tmp_path / "truth.png")[0] == 0
    with_truth = read_image(tmp_path / "out" / "scene_compare.png").shape
    assert with_truth[0] > without[0] or with_truth[1] > without[1], "a panel more"


def test_a_truth_of_another_size_and_stages_of_no_model(command, photo, tmp_path):
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.zeros((20, 24), dtype=np.uint8)).save(tmp_path / "labels" / "scene.png")
    flags = ("--classes", WORDS, "--methods", "clip", "--templates", "single")
    status, printed = command(photo, *flags, "--truth", tmp_path / "labels")
    assert status == 1
    assert "20x24 pixels (height x width), but" in printed
    with pytest.raises(LexisegError, match="--stages shows the stages of a trained Cascade-CLIP"):
        command(photo, *flags, "--stages")


def test_nothing_is_written_half(command, photo, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(LexisegError, match="out is a file; choose a folder for the results"):
        command(photo, "--classes", WORDS, "--methods", "clip", "--templates", "single")


def test_help_names_methods_and_examples(capsys):
    parser = argparse.ArgumentParser(prog="lexiseg")
    COMMAND.add_to(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["compare", "--help"])
    told = capsys.readouterr().out
    assert "--methods clip,sclip,sc-clip,tg-clip" in told
    assert "default: comparisons" in told
    assert all(name in told for name in METHODS)


@pytest.mark.slow
def test_settings_go_to_the_methods_that_have_use_for_them(command, photo, monkeypatch):
    built = {}
    build = recipe.build_method
    monkeypatch.setattr(
        recipe, "build_method", lambda name, *a, **k: built.setdefault(name, k) and build(name, *a, **k)
    )
    flags = ["--scales", "1", "--flip", "none", "--temperature", "0.5", "--set", "tg-clip.strength=2"]
    status, _ = command(photo, "--classes", WORDS, "--methods", "sclip,tg-clip", *flags)
    assert status == 0
    assert "temperature" not in built["sclip"]
    assert (built["tg-clip"]["strength"], built["tg-clip"]["temperature"]) == (2, 0.5)
    assert built["sclip"]["views"] == built["tg-clip"]["views"] == SINGLE_VIEW


def test_a_method_that_refuses_its_settings_is_left_out(command, photo):
    flags = ["--methods", "clip-surgery,sclip", "--strength", "0.2"]
    status, printed = command(photo, "--classes", WORDS, *flags)
    assert status == 0
    assert "clip-surgery is left out: text-guided recalibration needs logits that are cosines" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--set", "sigma=3"), "none of sclip, tg-clip has use for the setting 'sigma'"),
        (("--set", "strenth=3"), "for the setting 'strenth'; did you mean strength?"),
        (("--set", "gem.iterations=3"), "gem.iterations: gem is not among the methods"),
        (("--fusion", "mean", "--flip", "none"), "none of sclip, tg-clip has use for the setting 'fusion'"),
        (("--set", "unit_features=7"), "tg-clip.unit_features: expected true or false, got 7"),
    ],
)
def test_wrong_settings_stop_before_anything_is_loaded(command, photo, monkeypatch, flags, message):
    monkeypatch.setattr(recipe, "load_clip", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match=re.escape(message)):
        command(photo, "--classes", WORDS, "--methods", "sclip,tg-clip", *flags)
