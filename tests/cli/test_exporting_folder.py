"""``lexiseg export --to folder``, and the commands that take such a folder."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from hostile import small_checkpoint
from lexiseg.cli.main import main
from lexiseg.data.toy.world import ToyWorld
from lexiseg.inference.pretrained import PretrainedSegmenter
from lexiseg.recipes.evaluate import default_output


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    torch.save(small_checkpoint() | {"global_step": 7}, "best.ckpt")


def export(*flags):
    return main(["export", "best.ckpt", "--to", "folder", "--out", "model", *flags])


def printed(capsys):
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return " ".join((captured.out + captured.err).split())


@pytest.mark.slow
def test_predict_gives_the_same_files_from_either(capsys, tmp_path):
    assert export("--license", "mit", "--clip-license", "apache-2.0") == 0
    told = printed(capsys)
    assert "written to model" in told
    assert "largest difference of its logits from the live model's: 0.0e+00" in told
    assert "scores in its card: none beside the checkpoint" in told
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Trained weights: mit. CLIP weights (ships with lexiseg): apache-2.0." in card
    pixels = ToyWorld(partition="val", length=1, seed=3, image_size=(40, 56))[0].image
    Image.fromarray(pixels).save("photo.png")
    for checkpoint in ("best.ckpt", "model"):
        words = ["--classes", "bricks, red circle, grass"]
        out = ["--out", f"of_{checkpoint}", "--scores", "--device", "cpu"]
        assert main(["predict", "photo.png", *words, "--checkpoint", checkpoint, *out]) == 0
    for name in ("photo_labels.png", "photo_scores.png", "photo.json"):
        assert (tmp_path / "of_model" / name).read_bytes() == (tmp_path / "of_best.ckpt" / name).read_bytes()


def test_eval_of_the_folder_and_scores_of_the_checkpoint(capsys, tmp_path):
    data = ["data.val.image_size=[40,56]", "limit=1", "device=cpu"]
    assert main(["eval", "checkpoint=best.ckpt", *data]) == 0
    assert export() == 0
    assert "scores in its card: lexiseg eval" in printed(capsys)
    stored = json.loads((tmp_path / "model" / "config.json").read_text())["facts"]["measured"]
    scores = json.loads((tmp_path / "eval.json").read_text())["scores"]
    assert stored["scores"] == {name: value for name, value in scores.items() if value is not None}
    assert (stored["dataset"], stored["images"], stored["limited"]) == ("ToyWorld", 1, True)
    assert main(["eval", "checkpoint=model", *data]) == 0
    assert json.loads((tmp_path / "model.eval.json").read_text())["scores"] == scores


def test_where_scores_are_written(tmp_path):
    assert default_output("runs/x/best.ckpt").as_posix() == "runs/x/eval.json"
    (tmp_path / "model").mkdir()
    assert default_output("model") == tmp_path / "model.eval.json"
    assert default_output("somebody/model").as_posix() == "model.eval.json"


def test_an_exported_folder_is_exported_again_with_another_licence(tmp_path):
    assert export("--license", "mit") == 0
    again = ["export", "model", "--to", "folder", "--out", "second", "--clip-license", "apache-2.0"]
    assert main([*again, "--without-clip"]) == 0
    stored = json.loads((tmp_path / "second" / "config.json").read_text())
    assert (stored["facts"]["license"], stored["facts"]["clip_license"]) == ("mit", "apache-2.0")
    assert stored["clip"]["bundled"] is False
    assert not (tmp_path / "second" / "clip").exists()


def test_nothing_is_overwritten(capsys, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    assert export() == 2
    assert "--out model is there already; choose the name of a new folder" in printed(capsys)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]


def test_pushing(capsys, monkeypatch):
    pushed = []
    monkeypatch.setattr(
        PretrainedSegmenter, "push_to_hub", lambda self, name: pushed.append(name) or "https://hub/x"
    )
    assert export("--push", "somebody/model") == 0
    assert pushed == ["somebody/model"]
    assert "pushed: https://hub/x" in printed(capsys)


def test_pushing_without_network(capsys, tmp_path, monkeypatch):
    class NotReachedError(Exception):
        """As an HTTP library would define it."""

    def fail(self, name):
        raise NotReachedError("name or service not known")

    monkeypatch.setattr(PretrainedSegmenter, "push_to_hub", fail)
    assert export("--push", "somebody/model") == 2
    told = printed(capsys)
    assert (
        "could not push to 'somebody/model' (name or service not known); log in with `hf auth login`" in told
    )
    assert "The folder model is whole" in told
    assert 'from_pretrained("somebody/model")' in (tmp_path / "model" / "README.md").read_text()


def test_a_photograph_is_not_touched_by_a_broken_folder(capsys, tmp_path):
    assert export() == 0
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save("photo.png")
    capsys.readouterr()
    assert main(["predict", "photo.png", "--classes", "bricks", "--checkpoint", "model"]) == 2
    assert "model.safetensors: damaged or no safetensors file" in printed(capsys)
    assert not (tmp_path / "predictions").exists()
