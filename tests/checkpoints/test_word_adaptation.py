"""The file of an adaptation: what is written is read, and nothing else is."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from lexiseg.checkpoints.word_adaptation import WordAdaptation, require_adaptation_file
from lexiseg.errors import CheckpointError, ConfigError

LEARNED = WordAdaptation(
    words=("red", "scarlet", "grün"),
    prototypes=torch.arange(15.0).view(3, 5),
    scale=torch.tensor([1.0, 2.0, 0.5]),
    offset=torch.tensor([0.25, -1.0, 0.0]),
    templates=("a {}.",),
    made_for={"clip": "abc", "method": "sclip"},
    temperature=0.5,
    threshold=0.25,
    account={"steps": [{"part": "prototypes", "miou": 0.5}]},
)


def test_what_is_written_is_read(tmp_path):
    LEARNED.write(tmp_path / "new" / "a.safetensors")
    found = WordAdaptation.read(tmp_path / "new" / "a.safetensors")
    assert replace(found, prototypes=None, scale=None, offset=None) == replace(
        LEARNED, prototypes=None, scale=None, offset=None
    )
    for name in ("prototypes", "scale", "offset"):
        torch.testing.assert_close(getattr(found, name), getattr(LEARNED, name))


def _changed(path, told=None, tensors=None):
    with safe_open(str(path), framework="pt") as file:
        metadata, own = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = json.loads(metadata["lexiseg_adaptation"]) | (told or {})
    content = {key: value for key, value in content.items() if value != "GONE"}
    own = {name: tensor for name, tensor in (own | (tensors or {})).items() if tensor is not None}
    save_file(own, path, metadata={"lexiseg_adaptation": json.dumps(content)})


@pytest.mark.parametrize(
    ("told", "tensors", "named"),
    [
        ({"temperature": 0}, None, "temperature"),
        ({"temperature": "GONE"}, None, "entries"),
        ({"more": 1}, None, "entries"),
        ({"threshold": 1.0}, None, "threshold"),
        ({"words": ["red", 3, "blue"]}, None, "words"),
        ({"words": ["red"]}, None, "prototypes"),
        ({"made_for": []}, None, "made_for"),
        (None, {"scale": None}, "scale"),
        (None, {"other": torch.zeros(2)}, "other"),
        (None, {"offset": torch.tensor([0.0, torch.nan, 1.0])}, "offset"),
        (None, {"prototypes": torch.zeros(3)}, "prototypes"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(tmp_path, told, tensors, named):
    path = tmp_path / "a.safetensors"
    LEARNED.write(path)
    _changed(path, told, tensors)
    with pytest.raises(CheckpointError, match=rf"a\.safetensors: .*{named}.*adapt again"):
        WordAdaptation.read(path)


def test_a_missing_or_a_foreign_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such file; expected a file that `lexiseg adapt` wrote"):
        WordAdaptation.read(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="damaged or something else"):
        WordAdaptation.read(tmp_path / "a.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="damaged or something else"):
        WordAdaptation.read(tmp_path / "b.safetensors")


def test_another_model_is_refused():
    LEARNED.require_made_for({"method": "sclip", "clip": "abc"}, "here")
    with pytest.raises(CheckpointError, match="here: adapted with method sclip, but the model has maskclip"):
        LEARNED.require_made_for({"method": "maskclip", "clip": "abc"}, "here")
    with pytest.raises(CheckpointError, match="adapted with weights none"):
        LEARNED.require_made_for({"method": "sclip", "clip": "abc", "weights": "1"}, "here")


def test_what_names_no_file_is_refused_before_anything_is_read():
    for adapted in (-1, True, ["a.safetensors"], "  "):
        with pytest.raises(
            ConfigError, match="adapted: expected the path of a file that `lexiseg adapt` wrote, got "
        ):
            require_adaptation_file(adapted)
    require_adaptation_file(None)
    require_adaptation_file("a.safetensors")
