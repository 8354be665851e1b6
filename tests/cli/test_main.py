"""The command as a user meets it: help worth reading, mistakes answered in one message and status 2."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.cli.main import main


def run(capsys, *arguments):
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    "command", [[], ["predict"], ["compare"], ["data"], ["data", "check"], ["data", "prepare"], ["demo"]]
)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 8


@pytest.mark.parametrize(
    ("command", "choice", "foreign"),
    [
        ("train", "cascade_voc", "mask_data"),
        ("eval", "voc_15_5", "experiment"),
        ("pixelclip", "pixelclip/toy", "ablation"),
    ],
)
def test_help_of_the_hydra_commands(command, choice, foreign, capsys):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert "groups (group=choice)" in out
    assert choice in out
    assert f"  {foreign} " not in out, "a group of another command"


def test_config_is_printed_and_nothing_runs(capsys, tmp_path):
    status, out, _ = run(
        capsys, "train", "--config", "experiment=cascade_coco", f"output_dir={tmp_path / 'run'}"
    )
    assert status == 0
    assert "prompt_length: 50" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "model.prompt_lenght=3"], "prompt_lenght"),
        (["train", "experiment=voc"], "cascade_voc"),
        (["train", "split.unseen=[red square, zebra]"], "zebra"),
        (["train", "split.unseen=[red square, red square]"], "twice"),
        (["train", "data=camvid", "split=camvid", "data.root=/nowhere"], "/nowhere"),
        (["train", "optim.lr=-1"], "lr above 0"),
        (["train", "optim.lr=fast"], "optim.lr: expected a number, got 'fast'"),
        (["train", "model.prompt_length=1.5"], "model.prompt_length: expected a whole number"),
        (["train", "loss.ignored=maybe"], "loss.ignored: expected one of negative, ignored"),
        (["train", "model.stages=[[13]]"], "blocks 1 to 12"),
        (["train", "clip=file", "clip.source=/nowhere/ViT.pt"], "clip=toy"),
        (["eval", "checkpoint=/nowhere/last.ckpt"], "no such checkpoint"),
        (["eval", "checkpoint=x", "device=cuda:99"], "no such checkpoint"),
    ],
)
def test_mistakes(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
    assert err.startswith("lexiseg: ")
    assert "Traceback" not in out + err
    assert not (tmp_path / "runs").exists(), "nothing may be half-written"


def test_a_mask_of_another_size_and_an_id_outside_the_schema(capsys, tmp_path):
    def build(root, mask):
        for part in ("train", "val"):
            (root / "images" / part).mkdir(parents=True)
            (root / "masks" / part).mkdir(parents=True)
            Image.fromarray(np.full((40, 56, 3), 90, np.uint8)).save(root / "images" / part / "a.png")
            Image.fromarray(mask).save(root / "masks" / part / "a.png")
        (root / "classes.txt").write_text("bricks\nsand\nred circle\n")

    small, wild = tmp_path / "small", tmp_path / "wild"
    build(small, np.arange(40 * 48).reshape(40, 48).astype(np.uint8) % 3)
    build(wild, np.full((40, 56), 7, np.uint8))
    for root, told in ((small, "40x48"), (wild, "7")):
        arguments = ["train", "resume=false", "data=folder", f"data.root={root}", "split=custom"]
        status, _, err = run(capsys, *arguments, "split.unseen=[sand]", f"output_dir={tmp_path / 'run'}")
        assert status == 2, err
        assert told in err
        assert "a.png" in err
    assert not (tmp_path / "run").exists()


def test_a_seen_class_absent_from_training(capsys, tmp_path):
    for part in ("train", "val"):
        (tmp_path / "d/images" / part).mkdir(parents=True)
        (tmp_path / "d/masks" / part).mkdir(parents=True)
        Image.fromarray(np.full((40, 56, 3), 90, np.uint8)).save(tmp_path / "d/images" / part / "a.png")
        Image.fromarray(np.zeros((40, 56), np.uint8)).save(tmp_path / "d/masks" / part / "a.png")
    (tmp_path / "d/classes.txt").write_text("bricks\nsand\nwater\n")
    arguments = ["train", "resume=false", "data=folder", f"data.root={tmp_path / 'd'}", "split=custom"]
    status, _, err = run(capsys, *arguments, "split.unseen=[sand]", f"output_dir={tmp_path / 'run'}")
    assert status == 2
    assert "water" in err


def test_the_installed_command_runs_from_any_folder(tmp_path):
    command = [sys.executable, "-m", "lexiseg.cli.main", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lexiseg ")


def test_a_checkpoint_of_another_clip(capsys, tmp_path):
    from lexiseg.checkpoints.training_file import CheckpointInfo
    from lexiseg.types import ClassSplit

    info = CheckpointInfo(
        model={"name": "cascade_clip"},
        clip={"source": "toy", "fingerprint": "0" * 16},
        templates=("a {}",),
        split=ClassSplit("s", ("a", "b"), ("b",)),
        protocol={},
    )
    torch.save({"state_dict": {}, "lexiseg": info.to_dict()}, tmp_path / "x.ckpt")
    status, _, err = run(capsys, "eval", f"checkpoint={tmp_path / 'x.ckpt'}")
    assert status == 2
    assert "fingerprint 0000000000000000" in err


def test_a_truncated_image_in_training(capsys, tmp_path):
    for part in ("train", "val"):
        (tmp_path / "d/images" / part).mkdir(parents=True)
        (tmp_path / "d/masks" / part).mkdir(parents=True)
        rng = np.random.default_rng(0)
        image = tmp_path / "d/images" / part / "a.jpg"
        Image.fromarray(rng.integers(0, 255, (40, 56, 3)).astype(np.uint8)).save(image)
        Image.fromarray(np.arange(40 * 56).reshape(40, 56).astype(np.uint8) % 3).save(
            tmp_path / "d/masks" / part / "a.png"
        )
    (tmp_path / "d/classes.txt").write_text("bricks\nsand\nwater\n")
    broken = tmp_path / "d/images/train/a.jpg"
    broken.write_bytes(broken.read_bytes()[:900])
    arguments = ["train", "resume=false", "data=folder", f"data.root={tmp_path / 'd'}", "split=custom"]
    status, _, err = run(
        capsys, *arguments, "split.unseen=[sand]", f"output_dir={tmp_path / 'run'}", "data.num_workers=1"
    )
    assert status == 2
    assert "a.jpg" in err
    assert "Traceback" not in err
