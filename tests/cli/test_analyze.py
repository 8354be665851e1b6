"""``lexiseg analyze`` with the toy CLIP: both figures, with and without a trained model, whatever the flags say."""

import argparse
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from lexiseg.analysis.block_tokens import frozen_blocks, read_blocks
from lexiseg.checkpoints.training_file import CheckpointInfo
from lexiseg.cli.main import main
from lexiseg.cli.parsers.analyze import COMMAND
from lexiseg.clip.loading import load_clip
from lexiseg.data.io import read_image
from lexiseg.data.toy.world import ToyWorld
from lexiseg.errors import ConfigError, DataError
from lexiseg.models.registry import build_model
from lexiseg.ops.centered_kernel_alignment import linear_cka
from lexiseg.types import ClassSplit


@pytest.fixture(scope="session")
def scenes():
    return [sample.image for sample in ToyWorld(partition="val", length=2, seed=3, image_size=(56, 72))]


@pytest.fixture
def photos(tmp_path, scenes):
    for name, scene in zip("ab", scenes, strict=True):
        Image.fromarray(scene).save(tmp_path / f"{name}.v1.png")
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path):
    settings = {
        "name": "cascade_clip", "stages": ((3, 4), (12,)), "prompt_length": 2, "decoder_layers": 1, "decoder_heads": 2,
    }  # fmt: skip
    clip = load_clip("toy")
    info = CheckpointInfo(
        model=settings,
        clip={"source": "toy", "fingerprint": clip.fingerprint},
        templates=("a {}",),
        split=ClassSplit("s", ("grass", "water"), ("water",)),
        protocol={"short_side": 48},
    )
    torch.manual_seed(0)
    weights = build_model(settings, clip.vision).state_dict()
    (tmp_path / "mine").mkdir()
    torch.save({"state_dict": weights, "lexiseg": info.to_dict()}, tmp_path / "mine" / "best.ckpt")
    return tmp_path / "mine" / "best.ckpt"


@pytest.fixture
def command(tmp_path):
    """Runs ``analyze``; returns exit status, what was printed, and the result folder."""

    def run(*flags):
        parser = argparse.ArgumentParser()
        COMMAND.add_to(parser.add_subparsers())
        out = tmp_path / "out"
        args = parser.parse_args(["analyze", *map(str, flags), "--out", str(out), "--device", "cpu"])
        console = Console(width=200, record=True, force_terminal=False, file=io.StringIO())
        return args.func(args, console), console.export_text(), out

    return run


def test_cka_of_a_frozen_clip(command, photos, scenes):
    status, printed, out = command("cka", photos, "--clip", "toy", "--blocks", "2,5,12", "--short-side", 56)
    assert status == 0
    assert "2 of 2 photographs counted" in printed
    told = json.loads((out / "cka.json").read_text())
    assert (told["patches"], told["blocks"], told["estimator"]) == (2 * 7 * 9, [2, 5, 12], "unbiased")
    assert (told["short_side"], told["checkpoint"]) == (56, None)
    reading = frozen_blocks(load_clip("toy").vision)
    read = [
        read_blocks(reading, scene, short_side=56, patch_size=8, device=torch.device("cpu"))
        for scene in scenes
    ]
    second, last = (torch.cat([tokens.blocks[block - 1] for tokens in read]) for block in (2, 12))
    found = told["cka"]["frozen CLIP"]["matrix"]
    assert found[0][2] == pytest.approx(float(linear_cka(second, last)), abs=1e-5)
    assert np.diag(found) == pytest.approx(1)
    with Image.open(out / "cka.png") as picture:
        assert picture.height > 3 * 36


def test_cka_before_and_after(command, photos, checkpoint):
    status, printed, out = command("cka", photos, "--checkpoint", checkpoint, "--estimator", "plain")
    assert status == 0
    told = json.loads((out / "cka.json").read_text())
    assert list(told["cka"]) == ["frozen CLIP", "trained: mine"]
    assert "trained: mine" in printed
    assert (told["short_side"], told["estimator"]) == (48, "plain"), "the checkpoint's own size"
    assert told["model"]["prompt_length"] == 2
    before, after = (np.array(of_tower["matrix"]) for of_tower in told["cka"].values())
    assert before.shape == after.shape == (12, 12)
    assert not np.allclose(before, after)


def test_patches(command, photos, checkpoint):
    status, printed, out = command(
        "patches", photos, "--at", "70,3", "--checkpoint", checkpoint, "--short-side", 56, "--blocks", "12, 6"
    )
    assert status == 0
    assert "2 of 2 photographs drawn" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        f"{name}.v1_patches.{kind}" for name in "ab" for kind in ("json", "png")
    ]
    told = json.loads((out / "a.v1_patches.json").read_text())
    assert (told["point"], told["patch"], told["grid"]) == ([70, 3], [0, 8], [7, 9])
    assert list(told["cosines"]) == ["frozen CLIP", "trained: mine"]
    assert list(told["cosines"]["frozen CLIP"]) == ["6", "12"]
    values = np.array(told["cosines"]["trained: mine"]["12"])
    assert values.shape == (7, 9)
    assert values[0, 8] == pytest.approx(1)
    assert values.max() <= 1


def test_centred_maps_reach_further_down(command, photos):
    lowest = []
    for flags in ([], ["--centred"]):
        _, _, out = command(
            "patches", photos / "a.v1.png", "--at", "5,5", "--clip", "toy", "--blocks", 12, *flags
        )
        told = json.loads((out / "a.v1_patches.json").read_text())
        assert told["centred"] is bool(flags)
        lowest.append(np.min(told["cosines"]["frozen CLIP"]["12"]))
    assert lowest[1] < lowest[0]


def test_attention_of_points(command, photos, scenes):
    flags = ("--at", "60,5", "--at", "3,50", "--clip", "toy", "--short-side", 48)
    status, printed, out = command("attention", photos, *flags)
    assert status == 0
    assert "2 of 2 photographs drawn" in printed
    told = json.loads((out / "a.v1_attention.json").read_text())
    assert (told["points"], told["patches"], told["grid"]) == ([[60, 5], [3, 50]], [[0, 6], [5, 0]], [6, 8])
    maps = {name: np.array(values) for name, values in told["attention"].items()}
    assert {name: values.shape for name, values in maps.items()} == {"CLIP": (2, 6, 8), "CSA": (2, 6, 8)}
    assert all((values >= 0).all() and (values.sum((1, 2)) < 1).all() for values in maps.values())
    assert not np.allclose(maps["CLIP"], maps["CSA"])
    assert not np.allclose(maps["CSA"][0], maps["CSA"][1]), "each point has a map of its own"
    one, two = (read_image(out / f"{name}.v1_attention.png") for name in "ab")
    assert one.shape == two.shape
    assert one.shape[1] > one.shape[0], "three pictures a row, two rows"


def test_a_point_outside_one_photograph_and_a_broken_one(command, photos, scenes):
    Image.fromarray(scenes[0][:20, :30]).save(photos / "small.png")
    (photos / "wrong.png").write_text("no image")
    status, printed, out = command("patches", photos, "--at", "60,5", "--clip", "toy", "--blocks", 12)
    assert status == 1
    assert "outside the photograph of 30 by 20 pixels" in printed
    assert "2 of 4 photographs drawn" in printed
    assert len(list(out.iterdir())) == 4


def test_no_photograph_is_left(command, photos):
    (photos / "only").mkdir()
    (photos / "only" / "wrong.png").write_text("no image")
    with pytest.raises(DataError, match="0 patches of all photographs together"):
        command("cka", photos / "only", "--clip", "toy")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["cka", "--blocks", "3"], "--blocks 3: expected all, or 2 or more numbers from 1 to 12"),
        (["cka", "--blocks", "3,13"], "--blocks 3,13: expected all"),
        (["patches", "--at", "1,2", "--blocks", "0"], "1 or more numbers from 1 to 12"),
        (["patches", "--at", "1,2", "--blocks", "six"], "--blocks six"),
        (["patches", "--at", "1,2", "--blocks", ","], "--blocks ,"),
        (["patches", "--at", "12"], "--at 12: expected two whole numbers"),
        (["patches", "--at", "a,2"], "--at a,2"),
        (["patches", "--at", "1.5,2"], "such as --at 320,200"),
        (["attention", "--at", "1,2", "--at", "3"], "--at 3: expected two whole numbers"),
    ],
)
def test_mistakes(command, photos, flags, message):
    with pytest.raises(ConfigError, match=message):
        command(flags[0], photos, *flags[1:], "--clip", "toy")


@pytest.mark.parametrize("figure", [[], ["cka"], ["patches"], ["attention"]])
def test_help(figure, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["analyze", *figure, "--help"])
    assert caught.value.code == 0
    assert "lexiseg analyze" in capsys.readouterr().out


def test_a_short_side_of_nothing(command, photos):
    with pytest.raises(SystemExit):
        command("cka", photos, "--clip", "toy", "--short-side", 0)
