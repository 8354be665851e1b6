import argparse
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lexiseg.cli import predict
from lexiseg.cli.parsers.predict import COMMAND
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError, DataError, LexisegError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.types import ClassSplit
from segmenter_fakes import ColourModel, RegionsOfColour, colour_embeddings


class Clip:
    """Stands for a small CLIP that knows colours."""

    source = "toy"
    known_words = frozenset({"red", "green", "blue", "white", "black"})

    def unknown_words(self, names):
        return [name for name in names if name not in self.known_words]


@pytest.fixture
def command(monkeypatch):
    """Runs ``predict`` with a colour model; returns exit status and what was printed."""
    monkeypatch.setattr(Vocabulary, "embed", lambda self, clip, cache=None: colour_embeddings(self))

    def run(*flags, split=None, asked=None, **settings):
        parser = argparse.ArgumentParser()
        COMMAND.add_to(parser.add_subparsers())
        args = parser.parse_args(["predict", *map(str, flags)])

        def build(**choices):
            if asked is not None:
                asked.update(choices)
            protocol = InferenceProtocol.from_dict(settings)
            info = SimpleNamespace(split=split, synonyms={}) if split else None
            return Pipeline(ColourModel(), Clip(), protocol, ("{}",), info)

        console = Console(width=300, record=True, force_terminal=False, file=io.StringIO())
        monkeypatch.setattr(Pipeline, "load", build)
        return predict.run(args, console), console.export_text()

    return run


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, colour in enumerate(("red", "blue", "white")):
        Image.new("RGB", (24, 16), colour).save(folder / f"{index}_{colour}.png")
    return folder


def test_a_folder_of_photographs(command, photos, tmp_path):
    status, printed = command(photos, "--classes", "red, blue; white", "--out", tmp_path / "out")
    assert status == 0
    assert "0_red.png: red 100.0 %" in printed
    assert "2_white.png: blue 100.0 %" in printed
    assert "3 of 3 photographs segmented" in printed
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(
        f"{stem}{end}"
        for stem in ("0_red", "1_blue", "2_white")
        for end in (".json", "_labels.png", "_overlay.png")
    )
    content = json.loads((tmp_path / "out" / "1_blue.json").read_text())
    assert (content["height"], content["width"]) == (16, 24)
    assert content["found"][0]["name"] == "blue"
    assert content["protocol"]["activation"] == "sigmoid"


def test_a_broken_photograph_is_skipped_and_the_rest_done(command, photos, tmp_path):
    whole = (photos / "1_blue.png").read_bytes()
    (photos / "1_blue.png").write_bytes(whole[: len(whole) // 2])
    status, printed = command(
        photos, photos / "gone.png", "--classes", "red, blue", "--out", tmp_path / "out", "--no-overlay"
    )
    assert status == 1
    assert "2 of 4 photographs segmented" in printed
    assert "skipped 2:" in printed
    assert "1_blue.png is damaged or cut short" in printed
    assert "no file at" in printed
    assert (tmp_path / "out" / "2_white_labels.png").is_file()
    assert not (tmp_path / "out" / "1_blue.json").exists()
    assert not list((tmp_path / "out").glob("*overlay*"))


def test_no_image_at_all(command, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    for pattern in (tmp_path, tmp_path / "*.jpg"):
        with pytest.raises(DataError, match=r"no image found in .*; expected files ending in .jpg"):
            command(pattern, "--classes", "red")


def test_words_from_a_file(command, photos, tmp_path):
    (tmp_path / "words.txt").write_text("red; white\n\nblue\n")
    status, printed = command(photos, "--classes-file", tmp_path / "words.txt", "--out", tmp_path / "out")
    assert status == 0
    assert "2_white.png: red 100.0 %" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [("", "vocabulary is empty"), ("red,, blue", "class name is empty"), ("red, Red", "named twice: red")],
)
def test_bad_words_stop_before_anything_is_loaded(command, photos, words, message):
    asked = {}
    with pytest.raises(ConfigError, match=message):
        command(photos, "--classes", words, asked=asked)
    assert not asked


def test_words_or_file_but_not_both(photos, capsys):
    parser = argparse.ArgumentParser()
    COMMAND.add_to(parser.add_subparsers())
    for flags in ([], ["--classes", "red", "--classes-file", "x"]):
        with pytest.raises(SystemExit):
            parser.parse_args(["predict", str(photos), *flags])


def test_unknown_words_are_warned_of(command, photos, tmp_path):
    _, printed = command(photos, "--classes", "red, zebra", "--out", tmp_path / "out")
    assert "warning: the CLIP 'toy' has never read zebra; its answer for that means nothing" in printed
    assert "Ask for names made of what it knows (blue, green, red), or" in printed, (
        "black and white are a prompt's words"
    )
    _, printed = command(photos, "--classes", "red, blue", "--out", tmp_path / "out")
    assert "warning" not in printed


def test_background_and_threshold(command, photos, tmp_path):
    settings = {"activation": "linear", "logit_scale": 8.0}
    _, printed = command(
        photos, "--classes", "red", "--background", "white, red", "--out", tmp_path / "out", **settings
    )
    assert "2_white.png: background 100.0 %" in printed
    assert "0_red.png: red 100.0 %" in printed
    _, printed = command(
        photos, "--classes", "red, blue", "--threshold", "0.9", "--out", tmp_path / "out", **settings
    )
    assert "2_white.png: (no class) 100.0 %" in printed
    with pytest.raises(ConfigError, match=r"--threshold is 1.5; expected a number from 0 to below 1"):
        command(photos, "--classes", "red", "--threshold", "1.5", "--out", tmp_path / "out")


def test_classes_the_model_trained_on_bear_its_penalty(command, photos, tmp_path):
    split = ClassSplit("two", ("blue", "green"), unseen=("green",))
    _, printed = command(
        photos, "--classes", "blue, black", "--out", tmp_path / "out", split=split, seen_penalty=0.4
    )
    assert "1_blue.png: black 100.0 %" in printed
    content = json.loads((tmp_path / "out" / "1_blue.json").read_text())
    assert content["found"][0]["unseen"] is True


def test_choices_reach_the_builder(command, photos, tmp_path):
    asked = {}
    command(
        photos, "--classes", "red", "--clip", "toy", "--method", "sclip", "--templates", "single",
        "--device", "cpu", "--out", tmp_path / "out", asked=asked,
    )  # fmt: skip
    assert asked == {
        "checkpoint": None,
        "adapted": None,
        "clip": "toy",
        "tokenizer": None,
        "method": "sclip",
        "templates": "single",
        "device": "cpu",
        "trusted": False,
        "settings": {},
    }


def test_settings_of_a_method_reach_the_builder(command, photos, tmp_path):
    asked = {}
    command(
        photos, "--classes", "red", "--clip", "toy", "--method", "trident", "--strength", "0.2",
        "--temperature", "1", "--scales", "1,1.5", "--flip", "none", "--proxy", "vit", "--sam", "sam",
        "--set", "halves=true", "--set", "trident.likeness=1.5", "--out", tmp_path / "out", asked=asked,
    )  # fmt: skip
    assert asked["settings"] == {
        "strength": 0.2, "temperature": 1.0, "scales": (1.0, 1.5), "flip": "none", "proxy": "vit",
        "sam": "sam", "halves": True, "likeness": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--sam", "sam"),
            "--sam is for trident, and no method is named; name trident by --method, or drop --sam",
        ),
        (("--method", "sclip", "--proxy", "vit"), "--proxy is for proxyclip, corrclip or trident"),
        (("--set", "gem.iterations=2"), "the method is not named; say --method gem"),
        (("--set", "iterations"), "expected KEY=VALUE or METHOD.KEY=VALUE"),
    ],
)
def test_settings_that_no_model_takes_stop_before_it_is_loaded(command, photos, tmp_path, flags, message):
    asked = {}
    with pytest.raises(ConfigError, match=message):
        command(photos, "--classes", "red", "--out", tmp_path / "out", *flags, asked=asked)
    assert not asked


def test_a_folder_that_cannot_be_written(command, photos, tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(LexisegError, match="out is a file; choose a folder for the results"):
        command(photos, "--classes", "red", "--out", tmp_path / "out")


@pytest.fixture
def masks(tmp_path):
    (tmp_path / "masks").mkdir()
    return tmp_path / "masks"


def save_two_tone(path, masks, *, kind=np.uint8):
    """A third red, the rest blue; of three masks one lies over both, mostly over the blue."""
    pixels = np.zeros((16, 24, 3), dtype=np.uint8)
    pixels[:, :8] = (255, 0, 0)
    pixels[:, 8:] = (0, 0, 255)
    Image.fromarray(pixels).save(path)
    ids = np.zeros((16, 24), dtype=kind)
    ids[:8, 4:20] = 255
    ids[8:12, :4] = 7
    ids[12:, 12:] = 3
    if kind == np.uint16:
        ids[ids == 7] = 40_000
    Image.fromarray(ids).save(masks / f"{path.stem}.png")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_mask_has_one_class(command, tmp_path, masks, kind):
    save_two_tone(tmp_path / "two.png", masks, kind=kind)
    flags = [tmp_path / "two.png", "--classes", "red, blue", "--out", tmp_path / "out"]
    command(*flags)
    with Image.open(tmp_path / "out" / "two_labels.png") as image:
        plain = np.asarray(image).copy()
    assert plain[4, 5] == 0
    assert (plain[8:12, :4] == 0).all()
    status, _ = command(*flags, "--masks", masks)
    assert status == 0
    with Image.open(tmp_path / "out" / "two_labels.png") as image:
        voted = np.asarray(image).copy()
    assert (voted[:8, 4:20] == 1).all()
    changed = np.zeros_like(plain, dtype=bool)
    changed[:8, 4:20] = True
    assert (voted[~changed] == plain[~changed]).all()
    content = json.loads((tmp_path / "out" / "two.json").read_text())
    assert content["protocol"]["masks"] == str(masks / "two.png")


def test_masks_that_are_missing_or_do_not_fit(command, photos, tmp_path, masks):
    Image.new("L", (24, 16)).save(masks / "0_red.png")
    Image.new("L", (16, 24)).save(masks / "1_blue.png")
    status, printed = command(photos, "--classes", "red, blue", "--out", tmp_path / "out", "--masks", masks)
    assert status == 1
    assert "0_red.png: red 100.0 %" in printed, "a file without any mask votes for nothing"
    assert "1_blue.png has 24x16 pixels (height x width), the photograph, turned upright, 16x24" in printed
    assert f"no file at {masks / '2_white.png'}; check the path" in printed
    assert "1 of 3 photographs segmented" in printed


def test_masks_without_a_folder(command, photos, tmp_path):
    asked = {}
    with pytest.raises(ConfigError, match=r"--masks: expected a folder holding STEM.png per photograph"):
        command(photos, "--classes", "red", "--masks", tmp_path / "gone", asked=asked)
    assert not asked


@pytest.mark.parametrize(("flags", "steps"), [([], 0), (["--refine"], 10), (["--refine", "3"], 3)])
def test_refinement(command, photos, tmp_path, flags, steps):
    command(photos / "0_red.png", "--classes", "red, blue", "--out", tmp_path / "out", *flags)
    content = json.loads((tmp_path / "out" / "0_red.json").read_text())
    assert content["protocol"]["pamr_steps"] == steps
    assert content["found"][0]["name"] == "red"


def test_negative_steps(command, photos):
    with pytest.raises(ConfigError, match=r"--refine is -1; expected a number of steps"):
        command(photos, "--classes", "red", "--refine", "-1")


def test_score_maps_on_request(command, photos, tmp_path):
    command(photos, "--classes", "red, blue", "--out", tmp_path / "out", "--scores")
    with Image.open(tmp_path / "out" / "0_red_scores.png") as image:
        assert np.asarray(image).shape == (16, 24)


def test_help_shows_examples(capsys):
    parser = argparse.ArgumentParser(prog="lexiseg")
    COMMAND.add_to(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["predict", "--help"])
    assert 'lexiseg predict photo.jpg --classes "dog, grass, sky"' in capsys.readouterr().out


def test_segments_need_a_model_of_regions_and_are_refused_before_any_photograph(command, photos, tmp_path):
    flags = (photos, "--classes", "red, blue", "--out", tmp_path / "out", "--output", "panoptic")
    with pytest.raises(ConfigError, match=r"ColourModel names pixels"):
        command(*flags)
    asked = {}
    for more, message in (
        (("--scores",), "--scores is for labels of pixels"),
        (("--masks", "superpixels"), "--masks is for labels of pixels"),
        (("--threshold", "2"), "--threshold is 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            command(*flags, *more, asked=asked)
    with pytest.raises(ConfigError, match="--stuff is what segments do not count"):
        command(*flags[:-2], "--stuff", "red", asked=asked)
    assert not asked
    assert not (tmp_path / "out").exists()


def test_segments_of_a_folder(command, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ColourModel", RegionsOfColour)
    status, printed = command(
        photos, photos / "gone.png", "--classes", "red, blue, white", "--stuff", "white", "--output", "panoptic",
        "--out", tmp_path / "out", activation="scores",
    )  # fmt: skip
    assert status == 1
    assert "0_red.png: 1 x red 100.0 %" in printed
    assert "2_white.png: white 100.0 %" in printed
    assert "3 of 4 photographs segmented" in printed
    told = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [each["file_name"] for each in told["annotations"]] == ["0_red.png", "1_blue.png", "2_white.png"]
    assert sorted(path.name for path in (tmp_path / "out" / "panoptic").iterdir()) == [
        "0_red.png", "1_blue.png", "2_white.png",
    ]  # fmt: skip
    assert (tmp_path / "out" / "1_blue_panoptic_overlay.png").is_file()


def test_files_for_labelling_tools(command, photos, tmp_path):
    status, _ = command(
        photos, photos / "gone.png", "--classes", "red, blue, white", "--format", "coco,labelme", "--pieces",
        "--stuff", "white", "--no-overlay", "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["coco.json", "labelme"]
    told = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [(each["image_id"], each["category_id"], each["area"]) for each in told["annotations"]] == [
        (1, 0, 384), (2, 1, 384), (3, 2, 384),
    ]  # fmt: skip
    assert [each["isthing"] for each in told["categories"]] == [1, 1, 0]
