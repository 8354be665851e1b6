"""Checkpoints are whole or not there."""

from types import SimpleNamespace

import pytest
import torch

from lexiseg.training.checkpointing import AtomicCheckpointIO, KeepCheckpoints


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"value": torch.tensor(1)}, path)

    def half_then_die(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("lexiseg.training.checkpointing.torch.save", half_then_die)
    with pytest.raises(KeyboardInterrupt):
        io.save_checkpoint({"value": torch.tensor(2)}, path)
    assert io.load_checkpoint(path)["value"] == 1


def test_best_is_the_best_so_far_and_not_the_last(tmp_path):
    trainer = SimpleNamespace(callback_metrics={}, sanity_checking=False, saved=[])
    trainer.save_checkpoint = lambda path: trainer.saved.append(
        (path.name, trainer.callback_metrics["val/miou"])
    )
    keep = KeepCheckpoints(tmp_path, monitor="val/miou")
    for score in (0.2, 0.5, 0.3, 0.5, float("nan"), 0.6):
        trainer.callback_metrics = {"val/miou": score, "val/harmonic": 1 - score}
        keep.on_validation_end(trainer, None)
    assert trainer.saved == [("best.ckpt", 0.2), ("best.ckpt", 0.5), ("best.ckpt", 0.6)]
    resumed = KeepCheckpoints(tmp_path, monitor="val/miou")
    resumed.load_state_dict(keep.state_dict())
    trainer.callback_metrics = {"val/miou": 0.55}
    resumed.on_validation_end(trainer, None)
    assert len(trainer.saved) == 3, "a resumed run knows the best score of the one before"
