"""Files that would run a command if anybody unpickled them, and a checkpoint of a small model that never trained."""

import copy
import os
import pickle
from functools import cache
from pathlib import Path

import torch

from lexiseg.checkpoints.training_file import MODEL_PREFIX, CheckpointInfo
from lexiseg.clip.loading import load_clip
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.models.registry import build_model, model_settings
from lexiseg.types import ClassSplit

CLASSES = ("bricks", "red circle", "blue square")


class Attack:
    """Unpickles into a call of ``os.system``."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def as_pickle(mark: Path, path: Path) -> None:
    """A bare pickle."""
    path.write_bytes(pickle.dumps({"state_dict": Attack(mark)}, protocol=2))


def as_torch_file(mark: Path, path: Path) -> None:
    """Inside the archive that ``torch.save`` writes, behind a real tensor."""
    torch.save({"state_dict": {"a": torch.ones(2), "b": Attack(mark)}}, path)


def small_checkpoint():
    """What a training run on the toy CLIP would save, as a dictionary of its own."""
    return copy.deepcopy(_small_checkpoint())


@cache
def _small_checkpoint():
    clip = load_clip("toy")
    torch.manual_seed(3)
    settings = {"name": "cascade_clip", "stages": [[11], [12]], "prompt_length": 2, "decoder_layers": 1}
    model = build_model(settings, clip.vision)
    info = CheckpointInfo(
        model_settings(model),
        {"source": "toy", "fingerprint": clip.fingerprint},
        ("a photo of a {}",),
        ClassSplit("small", CLASSES, CLASSES[-1:]),
        InferenceProtocol(name="small", short_side=48, window=48, stride=24, seen_penalty=0.1).to_dict(),
    )
    state = {MODEL_PREFIX + name: tensor for name, tensor in model.state_dict().items()}
    return {"lexiseg": info.to_dict(), "state_dict": state}
