"""``lexiseg adapt`` on the toy world, and its file at other doors."""

import json

import pytest
from PIL import Image

from lexiseg.cli.main import main
from lexiseg.data.toy.world import TOY_CLASSES, ToyWorld


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two toy scenes with their label maps and the class names."""
    root = tmp_path_factory.mktemp("scenes")
    world = ToyWorld(partition="train", length=2, seed=3)
    for kind in ("photos", "masks"):
        (root / kind).mkdir()
    for index in range(2):
        Image.fromarray(world[index].image).save(root / "photos" / f"{index}.png")
        Image.fromarray(world[index].label).save(root / "masks" / f"{index}.png")
    (root / "words.txt").write_text("\n".join(TOY_CLASSES))
    return root


def test_from_photographs_to_a_file_that_predict_takes(scenes, capsys, monkeypatch):
    monkeypatch.chdir(scenes)
    model = ["--clip", "toy", "--method", "maskclip"]
    made = main(["adapt", "photos", "masks", "--words-file", "words.txt", *model, "--out", "few.safetensors"])
    printed = capsys.readouterr().out
    assert made == 0
    assert "prototypes" in printed
    assert "not shown, and their pixels left as they are" in printed
    shown = json.loads((scenes / "few.json").read_text())["words"]
    assert (
        main(["predict", "photos", "--classes-file", "words.txt", *model, "--adapted", "few.safetensors"])
        == 0
    )
    told = json.loads((scenes / "predictions" / "0.json").read_text())
    assert told["protocol"]["adapted"] == shown
    capsys.readouterr()
    assert main(["predict", "photos", "--classes", "car, tree", *model, "--adapted", "few.safetensors"]) == 2
    assert "none of the words asked for is among these" in capsys.readouterr().err
    model[-1] = "sclip"
    assert main(["predict", "photos", "--classes", "grass", *model, "--adapted", "few.safetensors"]) == 2
    assert "adapted with method maskclip, but the model has sclip" in capsys.readouterr().err


def test_a_mistake_is_told_before_a_model_is_loaded(scenes, capsys, monkeypatch):
    monkeypatch.chdir(scenes)
    assert main(["adapt", "photos", "masks", "--words", "one, two", "--clip", "nowhere"]) == 2
    told = capsys.readouterr().err
    assert "but there are 2 words, ids 0 to 1" in told
    assert "nowhere" not in told
