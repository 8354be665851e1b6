import argparse

import pytest

from lexiseg.cli.parsers.data import COMMAND
from lexiseg.errors import ConfigError, DataError


def run(*words):
    parser = argparse.ArgumentParser(prog="lexiseg")
    COMMAND.add_to(parser.add_subparsers())
    args = parser.parse_args(["data", *map(str, words)])
    return args.func(args)


def test_check_prints_everything_and_draws(trees, capsys, tmp_path):
    root, out = trees.camvid(ids=[0, 1, 8, 11]), tmp_path / "out"
    assert (
        run("check", "--data", "camvid", "--root", root, "--split", "camvid", "--out", out, "--overlays", 2)
        == 0
    )
    text = capsys.readouterr().out
    assert "camvid: 3 images, 11 classes" in text
    assert "8 seen, 3 unseen, inductive, unseen_pixels=shown" in text
    assert "car" in text
    assert "11, 255" in text
    assert "no pixel of: pole, road" in text
    assert "3 of 3 images show unseen classes" in text
    assert len(list(out.glob("*_overlay.png"))) == 2


def test_check_of_a_bare_folder_and_of_given_folders(trees, capsys, tmp_path):
    root = trees.folder()
    assert run("check", "--data", root, "--overlays", 0, "--out", tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()
    paths = (
        "--images",
        root / "images/val",
        "--masks",
        root / "masks/val",
        "--classes",
        root / "classes.txt",
    )
    assert run("check", "--data", "folder", *paths, "--out", tmp_path / "out") == 0
    assert "1 images, 2 classes" in capsys.readouterr().out
    assert (tmp_path / "out/a_overlay.png").exists()


def test_check_mistakes(trees, tmp_path):
    with pytest.raises(DataError, match=r"neither a data set .* nor a folder"):
        run("check", "--data", "camvidd")
    with pytest.raises(ConfigError, match="no split 'none'; there are all, camvid"):
        run("check", "--data", "camvid", "--root", trees.camvid(), "--split", "none")
    odd = trees.text("odd.yaml", "name: odd", "unsean: [car]")
    with pytest.raises(ConfigError, match="expected the keys name, unseen"):
        run("check", "--data", "camvid", "--root", trees.root, "--split", odd)
    with pytest.raises(ConfigError, match="cannot draw -1 overlays"):
        run("check", "--data", "camvid", "--root", trees.root, "--overlays", -1, "--out", tmp_path / "o")


def test_check_of_the_toy_world(capsys, tmp_path):
    assert run("check", "--data", "toy", "--split", "toy", "--out", tmp_path, "--overlays", 1) == 0
    assert "9 unseen" in capsys.readouterr().out


def test_prepare_camvid_verifies(trees, capsys):
    trees.camvid()
    trees.camvid(partition="val")
    assert run("prepare", "camvid", "--root", trees.root) == 0
    assert "train: 3 images (published: 367)" in capsys.readouterr().out
    trees.label("valannot/b.png", [0, 77])
    assert run("prepare", "camvid", "--root", trees.root) == 1
    assert "ids [77] are not in the schema" in capsys.readouterr().out


def test_prepare_reports_corrupt_sources_with_status_1(trees, capsys):
    root = trees.coco_stuff()
    (root / "annotations/val2017/000001_labelTrainIds.png").unlink()
    (root / "annotations/val2017/000001.png").write_bytes(b"torn")
    assert run("prepare", "coco_stuff", "--root", root) == 1
    text = capsys.readouterr().out
    assert "skipped 000001_labelTrainIds.png" in text
    assert "0 made, 1 already there, 1 failed" in text


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        run("check", "--help")
    assert "lexiseg data check --data camvid" in capsys.readouterr().out
