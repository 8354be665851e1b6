"""``lexiseg masks``: build, resume, look; and every mistake with one message."""

import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.cli.main import main
from lexiseg.masks.store import read_masks
from mask_cases import photograph
from tiny_sams import tiny_sam


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for seed, name in enumerate(("a.jpg", "b.png", "deep/c.png")):
        Image.fromarray(photograph(47, 61, seed)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff junk")
    (folder / "notes.txt").write_text("no image")
    return folder


def run(capsys, *arguments):
    status = main(["masks", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_build_then_resume_then_show(capsys, photos, tmp_path):
    status, told = run(capsys, "build", photos, "--workers", 1)
    assert status == 1, "a photograph was skipped"
    assert "4 photographs: 3 made, 0 already there, 1 skipped" in told
    assert "broken.jpg" in told
    assert "masks each: mean" in told
    assert len(read_masks(photos / "deep" / "c.png", (47, 61))) > 4
    status, told = run(capsys, "build", photos, "--workers", 1)
    assert "0 made, 3 already there, 1 skipped" in told
    status, told = run(capsys, "show", photos, "--output", tmp_path / "look")
    assert status == 1
    assert sorted(p.name for p in (tmp_path / "look").iterdir()) == [
        "a_masks.png",
        "b_masks.png",
        "c_masks.png",
    ]
    assert np.asarray(Image.open(tmp_path / "look" / "a_masks.png")).std() > 10


def test_other_settings(capsys, photos):
    run(capsys, "build", photos, "--workers", 1)
    status, told = run(capsys, "build", photos, "--workers", 1, "--regions", "3,5")
    assert status == 1
    assert "left as they are (3)" in told
    assert "regions [6, 12, 24, 48] (now [3, 5]); --overwrite makes them anew" in told
    status, told = run(capsys, "build", photos, "--workers", 1, "--regions", "3,5", "--overwrite")
    assert (status, "3 made" in told) == (1, True), "broken.jpg is skipped"
    status, _ = run(capsys, "build", photos / "a.jpg", photos / "b.png", "--workers", 1, "--regions", "3,5")
    assert status == 0


def test_masks_elsewhere(capsys, photos, tmp_path):
    status, _ = run(capsys, "build", photos, "--workers", 1, "--output", tmp_path / "masks")
    assert status == 1
    assert not list(photos.rglob("*.json"))
    assert (tmp_path / "masks" / "deep" / "c.png.masks.json").is_file()
    status, told = run(
        capsys, "show", photos / "a.jpg", "--masks", tmp_path / "masks", "--output", tmp_path / "look"
    )
    assert (status, "1 of 1 photographs drawn" in told) == (0, True)


def test_photographs_without_any_mask_are_named(capsys, photos, tmp_path):
    tiny_sam().save_pretrained(tmp_path / "sam")
    capsys.readouterr()
    flags = ("--provider", "sam", "--model", tmp_path / "sam", "--points", 2, "--device", "cpu")
    status, told = run(capsys, "build", photos / "a.jpg", *flags, "--min-quality", 1, "--min-stability", 1)
    assert status == 0
    assert "without any mask (1)" in told
    status, told = run(
        capsys, "build", photos / "a.jpg", *flags, "--min-quality", 0, "--min-stability", 0, "--overwrite"
    )
    assert "1 made" in told
    origin = json.loads((photos / "a.jpg.masks.json").read_text())["lexiseg"]
    assert origin["provider"] == "sam"
    assert origin["settings"]["model"] == "sam"
    assert len(origin["settings"]["weights"]) == 16
    assert len(read_masks(photos / "a.jpg", (47, 61))) > 0


def test_dino_masks(capsys, photos, tmp_path):
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(tmp_path / "dino")
    flags = ("--provider", "dino", "--model", tmp_path / "dino", "--clusters", 5, "--device", "cpu")
    status, told = run(capsys, "build", photos / "b.png", *flags)
    assert (status, "1 made" in told) == (0, True)
    masks = read_masks(photos / "b.png", (47, 61)).arrays()
    assert 2 <= len(masks) <= 5
    assert (masks.sum(0) == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "EMPTY"], "no image in"),
        (["build", "/nowhere/photos"], "no file or folder at /nowhere/photos"),
        (["build", "PHOTOS", "--output", "PHOTOS/a.jpg"], "output: expected a folder"),
        (["build", "PHOTOS", "--points", "3"], "--points: not a setting of --provider superpixels"),
        (["build", "PHOTOS", "--model", "x", "--device", "cpu"], "--model, --device: not a setting"),
        (["build", "PHOTOS", "--regions", "1"], "superpixels.regions: expected numbers of at least 2"),
        (["build", "PHOTOS", "--workers", "0"], "workers: expected at least 1, got 0"),
        (["build", "PHOTOS", "--provider", "sam", "--workers", "2"], "leave workers out"),
        (["build", "PHOTOS", "--provider", "dino", "--clusters", "1"], "dino.clusters: expected at least 2"),
        (["build", "PHOTOS", "--provider", "sam", "--model", "EMPTY"], "not a usable Hugging Face model"),
        (["build", "PHOTOS", "--provider", "dino", "--model", "EMPTY"], "not a usable Hugging Face model"),
    ],
)
def test_mistakes(capsys, photos, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"PHOTOS": str(photos), "EMPTY": str(tmp_path / "empty")}
    for name, place in places.items():
        arguments = [argument.replace(name, place) for argument in arguments]
    status, told = run(capsys, *arguments)
    assert status == 2
    assert message in told
    assert "Traceback" not in told
    assert not list(tmp_path.rglob("*.masks.json"))


def test_only_broken_photographs(capsys, photos):
    status, told = run(capsys, "build", photos / "broken.jpg")
    assert status == 1
    assert "1 photographs: 0 made, 0 already there, 1 skipped" in told


def test_show_without_masks(capsys, photos, tmp_path):
    status, told = run(capsys, "show", photos / "a.jpg", "--output", tmp_path)
    assert status == 1
    assert "run `lexiseg masks build`" in told


def test_help_names_the_providers(capsys):
    with pytest.raises(SystemExit):
        main(["masks", "build", "--help"])
    told = capsys.readouterr().out
    assert all(word in told for word in ("superpixels", "dino", "SAM-HQ", ".masks.json", "--overwrite"))
