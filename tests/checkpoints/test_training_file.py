"""Files that are no checkpoint get one message, whatever their bytes are."""

import pytest
import torch

from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.errors import CheckpointError

JUNK = {
    "text": b"broken\n",
    "empty": b"",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "zip": b"PK\x03\x04" + bytes(64),
    "stop": b".",
    "zeros": bytes(100),
}


@pytest.mark.parametrize("kind", JUNK)
def test_bytes_that_are_no_checkpoint(kind, tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(JUNK[kind])
    with pytest.raises(CheckpointError, match=r"last\.ckpt: (refused|damaged or no checkpoint)"):
        load_tensors_only(path)


def test_half_a_checkpoint(tmp_path):
    whole, half = tmp_path / "whole.ckpt", tmp_path / "half.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(50, 50)}}, whole)
    half.write_bytes(whole.read_bytes()[:5000])
    assert load_tensors_only(whole)["state_dict"]["a"].shape == (50, 50)
    with pytest.raises(CheckpointError, match=r"half\.ckpt: (refused|damaged)"):
        load_tensors_only(half)
