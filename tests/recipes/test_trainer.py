"""What Lightning would refuse, or what would take the machine down, is told before data or weights are read."""

import os
import signal
from types import SimpleNamespace

import pytest
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from lexiseg.errors import ConfigError
from lexiseg.interruption import Interrupted, run_command
from lexiseg.recipes.settings import TrainerSettings
from lexiseg.recipes.trainer import EndTogether, check_trainer, tell_other_batch


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"accelerator": "cpu", "devices": (os.cpu_count() or 1) + 97},
            "trainer.devices: .* of which this machine has",
        ),
        ({"accelerator": "cpu", "devices": "abc"}, "trainer: "),
        ({"accelerator": "abacus"}, "trainer.accelerator=abacus: torch finds none"),
        (
            {"accelerator": "tpu"},
            "trainer.accelerator=tpu: torch finds none .* say trainer.accelerator=.* or auto",
        ),
        ({"accelerator": "cpu", "precision": "abc"}, "trainer: .*abc"),
        ({"accelerator": "cpu", "more": {"no_such_key": 1}}, "trainer: .*no_such_key"),
    ],
)
def test_impossible_trainers(settings, message):
    with pytest.raises(ConfigError, match=message):
        check_trainer(TrainerSettings(**settings))


def test_no_graphics_processor(monkeypatch):
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: False)
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: False)
    told = "trainer.accelerator=gpu: torch finds none on this machine; say trainer.accelerator=cpu or auto"
    with pytest.raises(ConfigError, match=told):
        check_trainer(TrainerSettings(accelerator="gpu"))


def test_what_the_run_decides_itself():
    with pytest.raises(
        ConfigError, match="trainer: log_every_n_steps is decided by the run's other settings"
    ):
        check_trainer(TrainerSettings(accelerator="cpu", more={"log_every_n_steps": 3}))
    with pytest.raises(ConfigError, match="trainer: gradient_clip_val is decided"):
        check_trainer(
            TrainerSettings(accelerator="cpu", more={"gradient_clip_val": 3.0}), "gradient_clip_val"
        )


@pytest.mark.parametrize(
    ("batch", "processes", "accumulated", "said"),
    [
        (4, 4, 1, ""),
        (2, 1, 8, ""),
        (
            4,
            1,
            1,
            "published with 16 images a step, and this run takes 4 (4 a batch, 1 process, 1 accumulated)",
        ),
        (4, 8, 2, "this run takes 64 (4 a batch, 8 processes, 2 accumulated)"),
    ],
)
def test_a_published_recipe_at_another_batch_says_so(batch, processes, accumulated, said):
    settings = TrainerSettings(published_batch=16, accumulate_grad_batches=accumulated)
    told = tell_other_batch(settings, batch, processes)
    assert bool(told) == bool(said)
    assert said in told
    assert tell_other_batch(TrainerSettings(), batch, processes) == "", "nobody published any"


def test_possible_ones():
    check_trainer(TrainerSettings(accelerator="cpu", precision="bf16-mixed"))


@pytest.mark.usefixtures("ctrl_c")
def test_launched_processes_hear_of_a_signal_and_of_nothing_else():
    heard = []
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(kill=heard.append)))

    def work():
        EndTogether().on_exception(trainer, None, ValueError())
        assert not heard
        try:
            signal.raise_signal(signal.SIGINT)
        except Interrupted as error:
            EndTogether().on_exception(trainer, None, error)
        return 0

    assert run_command(work, ["lexiseg"], program=False) == 130
    assert heard == [signal.SIGTERM]


def test_lightning_s_handler_gives_way_when_training_starts():
    def work():
        signal.signal(signal.SIGTERM, lambda *_: None)
        EndTogether().on_train_start(None, None)
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert run_command(work, ["lexiseg"], program=False) == 143
