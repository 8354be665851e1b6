"""Judging a checkpoint from Python: no configuration framework, and the command's very scores."""

import json

import pytest
import torch

from hostile import small_checkpoint
from lexiseg.checkpoints.training_file import MODEL_PREFIX, CheckpointInfo
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.data.splits import make_split
from lexiseg.data.toy.world import ToyWorld
from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.models.registry import build_model, model_settings
from lexiseg.recipes.evaluate import Evaluation, default_output, judge, report_place
from lexiseg.types import ClassSplit


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


@pytest.fixture
def regions_checkpoint(tmp_path, monkeypatch):
    """FC-CLIP of the smallest size at random weights, on the toy CLIP."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    clip = load_clip("toy")
    torch.manual_seed(3)
    sizes = {"queries": 5, "width": 32, "heads": 2, "encoder_layers": 1, "encoder_feedforward": 16}
    model = build_model(
        {"name": "fc_clip", "decoder_layers": 1, "decoder_feedforward": 16, **sizes}, clip.vision
    )
    info = CheckpointInfo(
        model_settings(model),
        {"source": "toy", "fingerprint": clip.fingerprint},
        ("a photo of a {}",),
        ClassSplit("small", ("bricks", "red circle", "blue square"), ("blue square",)),
        InferenceProtocol(activation="scores").to_dict(),
    )
    state = {MODEL_PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    torch.save({"lexiseg": info.to_dict(), "state_dict": state}, tmp_path / "regions.ckpt")
    return tmp_path / "regions.ckpt"


def test_segments_are_judged_by_the_command_too(regions_checkpoint, capsys):
    ours = judge(evaluation(regions_checkpoint, segments="panoptic", limit=1)).to_dict()
    assert ours["segments"]["stuff"] == sorted(ToyWorld(partition="val", length=1).stuff)
    keys = ["data.val.length=2", "data.val.image_size=[48,56]", "split=all", "device=cpu", "limit=1"]
    assert main(["eval", f"checkpoint={regions_checkpoint}", *keys, "segments=panoptic"]) == 0
    told = json.loads((regions_checkpoint.parent / "eval_panoptic.json").read_text())
    assert told["scores"] == {key: None if value != value else value for key, value in ours["scores"].items()}
    assert "PQ things %" in capsys.readouterr().out
    assert (
        main(["eval", f"checkpoint={regions_checkpoint}", *keys, "segments=instances", "stuff=[sand]"]) == 0
    )
    told = json.loads((regions_checkpoint.parent / "eval_instances.json").read_text())
    assert told["segments"]["stuff"] == ["sand"]
    assert not (regions_checkpoint.parent / "eval.json").exists()


def test_segments_of_a_model_of_pixels_are_refused(checkpoint):
    with pytest.raises(ConfigError, match="CascadeCLIP names pixels"):
        judge(evaluation(checkpoint, segments="panoptic"))
    with pytest.raises(ConfigError, match="expected panoptic or instances"):
        evaluation(checkpoint, segments="boxes")
    with pytest.raises(ConfigError, match="leave out masks or segments"):
        evaluation(checkpoint, segments="panoptic", masks="ground_truth")
    assert default_output(checkpoint).name == "eval.json"
    assert report_place(None, checkpoint, "instances") == checkpoint.parent / "eval_instances.json"
    assert report_place(None, checkpoint, "instances", adapted="x").name == "eval_instances_adapted.json"
    assert report_place("told.json", checkpoint, "instances").name == "told.json"
    with pytest.raises(ConfigError, match="panoptic or instances"):
        report_place(None, checkpoint, "a/b")
