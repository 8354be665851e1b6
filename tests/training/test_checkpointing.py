"""Checkpoints are whole or not there."""

import pytest
import torch

from lexiseg.training.checkpointing import AtomicCheckpointIO


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
