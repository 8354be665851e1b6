"""Whole training runs on the toy world: learning, exact resumption, guards, what stands in the run folder."""

import csv
import json
import subprocess
import sys

import pytest
import torch

from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.cli.ablations import compose_training
from lexiseg.cli.composing import plain
from lexiseg.errors import CheckpointError, ConfigError, TrainingError
from lexiseg.recipes import train
from lexiseg.recipes.records import training_run
from support import slow_but

SMALL = [
    "resume=false",
    "trainer=cpu",
    "trainer.max_steps=20",
    "validation.every_steps=20",
    "checkpoint.every_steps=10",
    "optim.warmup_steps=2",
    "data.train.image_size=[40,56]",
    "data.train_transform.base=[40,56]",
    "data.train_transform.crop=[40,56]",
    "data.val.image_size=[40,56]",
    "data.val.length=3",
    "data.batch_size=2",
    "validation.panels=1",
    "model.prompt_length=3",
]


def run(folder, *overrides):
    return train(training_run(plain(compose_training([*SMALL, f"output_dir={folder}", *overrides])), print))


def read_log(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(folder, name="last.ckpt"):
    return load_tensors_only(folder / name)["state_dict"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Eight uninterrupted steps."""
    folder = tmp_path_factory.mktemp("straight")
    run(folder, "trainer.max_steps=8", "checkpoint.every_steps=3", "validation.every_steps=4")
    return folder


def test_run_folder(straight):
    names = {path.name for path in straight.iterdir()}
    assert {"config.yaml", "metrics.csv", "last.ckpt", "best.ckpt", "result.json", "panels"} <= names
    rows = read_log(straight)
    logged = {row["name"] for row in rows}
    assert {"val/seen", "val/unseen", "val/harmonic", "val/pixel_accuracy", "val_iou/bricks"} <= logged
    result = json.loads((straight / "result.json").read_text())
    assert result["step"] == 8
    assert len(list((straight / "panels").glob("*.png"))) == 1


def test_checkpoint_holds_what_the_clip_file_does_not(straight):
    checkpoint = load_tensors_only(straight / "last.ckpt")
    names = checkpoint["state_dict"].keys()
    assert any("projections.6.projection" in name for name in names), "random, frozen projections must travel"
    assert not any("vision" in name or "encoder" in name for name in names), "the frozen tower must not"
    assert checkpoint["lexiseg"]["clip"]["source"] == "toy"
    assert len(checkpoint["lexiseg"]["clip"]["fingerprint"]) == 16


@pytest.mark.parametrize("stop", slow_but([2, 4, 6], [6]), ids=["before", "at", "after"])
def test_resuming_is_exact(straight, tmp_path, stop, monkeypatch):
    """A run killed after a checkpoint ends with the very weights of one that was not, also around a validation."""
    from lexiseg.training.task import SegmentationTask

    original = SegmentationTask.training_step

    def dies(self, batch, index):
        if self.global_step == stop:
            raise KeyboardInterrupt
        return original(self, batch, index)

    settings = ("resume=auto", "trainer.max_steps=8", "checkpoint.every_steps=2", "validation.every_steps=4")
    monkeypatch.setattr(SegmentationTask, "training_step", dies)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(tmp_path, *settings)
    monkeypatch.setattr(SegmentationTask, "training_step", original)
    run(tmp_path, *settings)
    expected, resumed = weights(straight), weights(tmp_path)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    steps = [int(row["step"]) for row in read_log(tmp_path) if row["name"] == "val/seen"]
    assert steps == sorted(set(steps)), "no validation is logged twice"


def test_another_run_in_the_same_folder_is_refused(straight):
    told = r"holds a run with other settings \(seed: 0 there, 5 now; data.seed: 0 there, 5 now\); .* choose another name="
    with pytest.raises(ConfigError, match=told):
        run(straight, "resume=auto", "seed=5", "trainer.max_steps=8", "checkpoint.every_steps=3")


def test_what_is_wrong_in_itself_is_told_before_what_is_wrong_for_the_folder(straight):
    for changes, told in (
        ({"split.unseen": "[red square, zebra]"}, "zebra"),
        ({"templates": "nothing"}, "nothing"),
    ):
        with pytest.raises(ConfigError) as caught:
            run(straight, "resume=auto", "seed=5", *(f"{key}={value}" for key, value in changes.items()))
        assert told in str(caught.value)
        assert "other settings" not in str(caught.value)


@pytest.mark.slow
def test_going_on_for_longer_than_planned_is_told(tmp_path, capsys):
    same = ("resume=auto", "checkpoint.every_steps=2", "validation.panels=0")
    run(tmp_path, *same, "trainer.max_steps=2")
    capsys.readouterr()
    run(tmp_path, *same, "trainer.max_steps=4")
    told = "this run was planned for 2 steps and goes on to 4; so far its learning rate followed the schedule of 2"
    assert capsys.readouterr().out.count(told) == 1
    (tmp_path / "result.json").unlink()
    run(tmp_path, *same, "trainer.max_steps=4")
    assert "planned for" not in capsys.readouterr().out


def test_resuming_from_another_model(straight, tmp_path):
    with pytest.raises(CheckpointError, match="prompt_length: checkpoint 3, now 4"):
        run(tmp_path, f"resume={straight / 'last.ckpt'}", "model.prompt_length=4")


def test_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        run(tmp_path, "resume=/nowhere/last.ckpt")


def test_unseen_label_in_an_inductive_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lexiseg.data.datamodule.seen_label_map", lambda split: __import__("numpy").arange(256, dtype="uint8")
    )
    with pytest.raises(TrainingError, match="reached an inductive loss"):
        run(tmp_path, "trainer.max_steps=20")


def test_loss_that_is_no_number(tmp_path):
    with pytest.raises(TrainingError, match="the loss became nan at step 1.*Lower optim.lr"):
        run(tmp_path, "optim.lr=1.0e+30", "optim.warmup_steps=0")
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.slow
def test_gradient_accumulation_counts_optimiser_steps(tmp_path):
    run(
        tmp_path,
        "trainer.max_steps=4",
        "trainer.accumulate_grad_batches=2",
        "checkpoint.every_steps=2",
        "validation.every_steps=4",
    )
    assert load_tensors_only(tmp_path / "last.ckpt")["global_step"] == 4


@pytest.mark.slow
def test_it_learns(tmp_path):
    """Sixty steps on small scenes lower the loss by more than half: the machine learns at all."""
    overrides = (
        "trainer.max_steps=60",
        "validation.every_steps=60",
        "optim.lr=0.002",
        "checkpoint.every_steps=60",
    )
    run(tmp_path, *overrides)
    rows = [row for row in read_log(tmp_path) if row["name"] == "train/loss"]
    first, last = float(rows[0]["value"]), float(rows[-1]["value"])
    assert last < first / 2


@pytest.mark.slow
def test_two_processes_report_what_one_reports(straight, tmp_path):
    """Validation under gloo equals one process to the last digit, also with an odd number of images."""
    command = [
        sys.executable,
        "-m",
        "lexiseg.cli.main",
        "train",
        *SMALL,
        "trainer.max_steps=1",
        "validation.every_steps=1",
    ]
    scores = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        settings = [
            f"output_dir={folder}",
            f"trainer.devices={devices}",
            "optim.warmup_steps=1000000",
            "+trainer.strategy=ddp",
        ]
        subprocess.run([*command, *settings], check=True, capture_output=True, timeout=280)
        scores.append(json.loads((folder / "result.json").read_text())["val"])
    assert scores[0] == scores[1]
