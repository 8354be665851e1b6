"""Training checkpoints: tensors only, and refused when they are another's, damaged, or no checkpoint at all."""

import os
import pickle
import warnings

import pytest
import torch

from lexiseg.checkpoints.info import CheckpointInfo
from lexiseg.checkpoints.training_file import (
    check_same,
    load_tensors_only,
    load_weights,
    read_info,
    with_present_names,
)
from lexiseg.clip.formats.weight_file import read_clip_file
from lexiseg.errors import CheckpointError
from lexiseg.types import ClassSplit

INFO = CheckpointInfo(
    model={"name": "cascade_clip", "prompt_length": 3},
    clip={"source": "toy", "fingerprint": "abc"},
    templates=("a {}",),
    split=ClassSplit("s", ("cat", "dog"), ("dog",)),
    protocol={"window": None},
)

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


def test_description_round_trip(tmp_path):
    path = tmp_path / "c.ckpt"
    torch.save({"state_dict": {}, "lexiseg": INFO.to_dict()}, path)
    assert read_info(load_tensors_only(path), path) == INFO


class _Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_is_refused_and_not_run(tmp_path):
    mark, path = tmp_path / "was-run", tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": _Payload(mark)}))
    with pytest.raises(CheckpointError, match="refused.*nothing from it was run"):
        load_tensors_only(path)
    torch.save({"lexiseg": _Payload(mark)}, path)
    with pytest.raises(CheckpointError, match="refused"):
        load_tensors_only(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "damaged"), (b"not a checkpoint", "refused|damaged"), (None, "no such checkpoint")],
)
def test_files_that_are_no_checkpoint(tmp_path, content, message):
    path = tmp_path / "x.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_tensors_only(path)


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.csv", "panels/step3.png", "model.safetensors", "panels"]
)
def test_another_file_of_a_run_s_folder(tmp_path, name):
    (tmp_path / "panels").mkdir()
    path = tmp_path / name
    if path.suffix:
        path.write_bytes(b"trainer: cpu, and more bytes of no checkpoint")
    what = f"a {path.suffix} file" if path.suffix else "a folder"
    with pytest.raises(CheckpointError, match=f"^{path}: {what}, no checkpoint; expected a .ckpt [a-z ]*$"):
        load_tensors_only(path)
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(CheckpointError, match=f"expected a .ckpt .*, such as {tmp_path / 'last.ckpt'}$"):
        load_tensors_only(path)


def test_truncated_checkpoint(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_tensors_only(path)


def test_somebody_elses_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="not a lexiseg checkpoint .it holds state_dict, epoch"):
        read_info({"state_dict": {}, "epoch": 3}, "x.ckpt")
    with pytest.raises(CheckpointError, match="format 99, this version reads 1"):
        read_info({"state_dict": {}, "lexiseg": INFO.to_dict() | {"format": 99}}, "x.ckpt")


def test_another_clip_and_another_model():
    check_same(INFO, model=INFO.model, fingerprint="abc", path="x.ckpt")
    with pytest.raises(
        CheckpointError, match="trained on the CLIP 'toy' .fingerprint abc.*loaded has fingerprint xyz"
    ):
        check_same(INFO, model=INFO.model, fingerprint="xyz", path="x.ckpt")
    with pytest.raises(CheckpointError, match="prompt_length: checkpoint 3, now 5"):
        check_same(INFO, model={"name": "cascade_clip", "prompt_length": 5}, fingerprint="abc", path="x.ckpt")


def test_keys_are_accounted_for():
    model = torch.nn.Linear(2, 3)
    with pytest.raises(
        CheckpointError,
        match="missing: bias; unknown: extra; wrong shape: weight: expected .3, 2., got .2, 2.",
    ):
        load_weights(model, {"model.weight": torch.zeros(2, 2), "model.extra": torch.zeros(1)}, "x.ckpt")


def test_a_teacher_saved_under_its_former_name():
    """Self-training's teacher was ``teacher.model`` before it and PixelCLIP's became one."""
    old = {"model.teacher.model.w": 1, "teacher.model.w": 2, "teacher.model.model.w": 3}
    new = {"model.teacher.model.w": 1, "teacher.average.w": 2, "teacher.average.model.w": 3}
    assert with_present_names(old) == with_present_names(new) == new
    assert with_present_names("damaged") == "damaged"


def test_a_pickle_of_something_else_is_one_sentence_and_no_warning(tmp_path):
    path = tmp_path / "list.ckpt"
    path.write_bytes(pickle.dumps([1, 2], protocol=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match="refused. The file asks to run or build"):
            load_tensors_only(path)
        with pytest.raises(CheckpointError, match="not a weight file that loads without running code"):
            read_clip_file(path)
