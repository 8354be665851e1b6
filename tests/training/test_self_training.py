"""Self-training: which pixels take which pseudo-labels, the teacher, and both stages in one command."""

import json

import pytest
import torch
import torch.nn.functional as F

from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.constants import UNLABELLED
from lexiseg.data.splits import make_split, seen_label_map
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.training.self_training import SelfTrainingSettings, pseudo_labels
from support import slow_but
from training.test_runs import read_log, run, weights

STAGES = (
    "self_training=published",
    "trainer.max_steps=6",
    "checkpoint.every_steps=2",
    "validation.every_steps=3",
)


def both(folder, *overrides):
    return run(folder, *STAGES, "resume=auto", *overrides)


def test_only_unlabelled_pixels_change_and_only_to_unseen_classes():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3, 7)
    labels = torch.randint(0, 3, (2, 11, 13))
    labels[:, :4] = UNLABELLED
    labels[:, 9:] = 255
    filled = pseudo_labels(logits, labels, (1, 4))
    full = F.interpolate(logits, size=(11, 13), mode="bilinear", align_corners=False).sigmoid()
    full[:, [0, 2, 3]] = -1  # as published
    assert torch.equal(filled[:, :4], full.argmax(1)[:, :4])
    assert torch.equal(filled[:, 4:], labels[:, 4:])
    assert set(filled[:, :4].unique().tolist()) == {1, 4}


def test_unsure_pixels_stay_without_label():
    logits = torch.full((1, 2, 1, 2), -9.0)
    logits[0, 1] = torch.tensor([[2.0, 0.0]])  # sigmoids 0.88 and 0.5
    labels = torch.full((1, 1, 2), UNLABELLED)
    assert pseudo_labels(logits, labels, (1,), confidence=0.6).tolist() == [[[1, 255]]]
    assert pseudo_labels(logits, labels, (1,)).tolist() == [[[1, 1]]]


def test_no_gradient_flows_into_pseudo_labels():
    logits = torch.randn(1, 2, 2, 3, requires_grad=True)
    assert not pseudo_labels(logits, torch.full((1, 5, 7), UNLABELLED), (1,)).requires_grad


def test_transductive_labels_tell_unlabelled_from_ignored():
    split = make_split(("cat", "dog", "sky"), name="s", unseen=["dog"], setting="transductive")
    assert seen_label_map(split)[[0, 1, 2, 3, 255]].tolist() == [0, UNLABELLED, 2, 255, 255]
    many = make_split([f"c{i}" for i in range(255)], name="s", unseen=["c1"], setting="transductive")
    assert seen_label_map(many)[[0, 1, 254, 255, 65535]].tolist() == [0, 65534, 254, 65535, 65535]


def test_pseudo_labels_of_hundreds_of_classes_tell_class_254_from_unlabelled():
    logits = torch.zeros(1, 300, 2, 3)
    logits[:, 255] = 5.0
    labels = torch.tensor([[[254, 255, 65534, 65535, 1]]])
    assert pseudo_labels(logits, labels, (1, 255)).tolist() == [[[254, 255, 255, 65535, 1]]]
    assert pseudo_labels(logits - 6, labels, (1, 255), confidence=0.5).tolist() == [
        [[254, 255, 65535, 65535, 1]]
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inductive_share": 0.0}, "inductive_share: expected above 0"),
        ({"confidence": 1.0}, "confidence: expected from 0 to below 1"),
        ({"teacher_decay": -0.1}, "teacher_decay: expected from 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigError, match=message):
        SelfTrainingSettings(**settings)


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("st")
    both(folder)
    return folder


def test_both_stages_run_and_the_second_starts_from_the_first(two_stages):
    first, second = (load_tensors_only(two_stages / s / "last.ckpt") for s in ("inductive", "transductive"))
    assert (first["global_step"], second["global_step"]) == (3, 3)
    assert first["lexiseg"]["split"]["setting"] == "inductive"
    assert second["lexiseg"]["split"]["setting"] == "transductive"
    assert second["lexiseg"]["protocol"]["seen_penalty"] == 0.0
    frozen = [name for name in first["state_dict"] if "projections" in name]
    assert frozen
    assert all(torch.equal(first["state_dict"][n], second["state_dict"][n]) for n in frozen)
    rates = {row["name"]: float(row["value"]) for row in read_log(two_stages / "transductive")}
    assert rates, "the second stage logs"


def test_the_first_stage_follows_the_long_schedule(two_stages):
    config = (two_stages / "inductive" / "config.yaml").read_text()
    assert "schedule_steps: 6" in config
    assert "max_steps: 3" in config


@pytest.mark.slow
@pytest.mark.parametrize("stage", slow_but(["inductive", "transductive"], ["transductive"]))
def test_resuming_in_either_stage_is_exact(two_stages, tmp_path, stage, monkeypatch):
    from lexiseg.training.task import SegmentationTask

    original = SegmentationTask.training_step

    def dies(self, batch, index):
        if self.split.setting == stage and self.global_step == 2:
            raise KeyboardInterrupt
        return original(self, batch, index)

    monkeypatch.setattr(SegmentationTask, "training_step", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        both(tmp_path)
    monkeypatch.setattr(SegmentationTask, "training_step", original)
    both(tmp_path)
    expected, resumed = weights(two_stages / "transductive"), weights(tmp_path / "transductive")
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


@pytest.mark.slow
def test_a_teacher_travels_in_the_checkpoint_and_not_into_the_model(tmp_path):
    both(tmp_path, "self_training.teacher_decay=0.9", "self_training.confidence=0.1")
    state = weights(tmp_path / "transductive")
    assert any(name.startswith("teacher.") for name in state)
    assert not any("vision" in name or "tower" in name for name in state)
    loaded = Pipeline.load(tmp_path / "transductive" / "last.ckpt", device="cpu")
    assert loaded.info.split.setting == "transductive"


def test_starting_from_another_model_is_refused(two_stages, tmp_path):
    with pytest.raises(CheckpointError, match="prompt_length"):
        run(tmp_path, f"init_from={two_stages / 'inductive' / 'last.ckpt'}", "model.prompt_length=4")


def test_a_finished_first_stage_is_not_run_again(two_stages, tmp_path, capsys):
    result = json.loads((two_stages / "inductive" / "result.json").read_text())
    assert result["step"] == 3
    both(two_stages)
    assert "is complete" in capsys.readouterr().out
