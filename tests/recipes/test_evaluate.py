"""Judging a checkpoint from Python: no configuration framework, and the command's very scores."""

import json

import pytest
import torch

from hostile import small_checkpoint
from lexiseg.cli.main import main
from lexiseg.data.splits import make_split
from lexiseg.data.toy.world import ToyWorld
from lexiseg.errors import ConfigError
from lexiseg.recipes.evaluate import Evaluation, default_output, judge


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    torch.save(small_checkpoint(), tmp_path / "small.ckpt")
    return tmp_path / "small.ckpt"


def evaluation(checkpoint, **changes):
    world = ToyWorld(partition="val", length=2, image_size=(48, 56))
    split = make_split(world.classes, name="all", unseen=[], setting="supervised")
    return Evaluation(checkpoint, world, split, device="cpu", **changes)


def test_python_judges_as_the_command_does(checkpoint, tmp_path):
    ours = judge(evaluation(checkpoint, protocol={"logit_scale": 3.0}, limit=1)).to_dict()
    command = [
        "eval",
        f"checkpoint={checkpoint}",
        "data.val.length=2",
        "data.val.image_size=[48,56]",
        "split=all",
    ]
    keys = ["device=cpu", "protocol.logit_scale=3.0", "limit=1", f"output={tmp_path / 'told.json'}"]
    assert main([*command, *keys]) == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["scores"]["pixel_accuracy"] == ours["scores"]["pixel_accuracy"]
    assert {name: told["per_class"][name]["iou"] for name in ("bricks", "red circle")} == {
        name: None if (iou := ours["per_class"][name]["iou"]) != iou else iou
        for name in ("bricks", "red circle")
    }
    assert told["protocol"] == json.loads(json.dumps(ours["protocol"]))
    assert told["images"] == ours["images"] == 1


def test_what_the_task_names_wins_over_the_checkpoint(checkpoint):
    own = judge(evaluation(checkpoint, limit=1)).settings
    assert own["protocol"]["seen_penalty"] == 0.1
    assert own["vocabulary"]["templates"] == ["a photo of a {}"]
    task = evaluation(
        checkpoint, protocol={"seen_penalty": 0.25, "stride": 16}, templates=["one {}."], limit=1
    )
    changed = judge(task).settings
    assert changed["protocol"] == own["protocol"] | {"seen_penalty": 0.25, "stride": 16}
    assert changed["vocabulary"]["templates"] == ["one {}."]


def test_a_protocol_key_that_does_not_exist(checkpoint):
    with pytest.raises(ConfigError, match="seen_penaltie"):
        judge(evaluation(checkpoint, protocol={"seen_penaltie": 0.0}))


def test_results_stand_beside_what_was_judged(tmp_path):
    (tmp_path / "folder").mkdir()
    assert default_output(tmp_path / "best.ckpt") == tmp_path / "eval.json"
    assert default_output(tmp_path / "folder") == tmp_path / "folder.eval.json"
