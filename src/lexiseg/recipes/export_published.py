"""A trained model in the layout that its paper's authors released."""

from dataclasses import dataclass
from pathlib import Path

import torch

from lexiseg.checkpoints.published_checkpoint import (
    SIDECAR_SUFFIX,
    export_published,
)
from lexiseg.checkpoints.published_system import export_system, system_called
from lexiseg.checkpoints.training_file import (
    MODEL_PREFIX,
    check_same,
    load_tensors_only,
    read_info,
)
from lexiseg.clip.loading import load_clip
from lexiseg.errors import ConfigError
from lexiseg.storage import is_same_file, require_file_place, write_atomically


@dataclass(frozen=True)
class PublishedFile:
    """A file in the published layout that was written.

    Attributes:
        tensors: How many it holds.
        sidecar: Where the tensors came from that lexiseg does not use; None: those are zero.
    """

    tensors: int
    sidecar: Path | None


def export_published_file(
    checkpoint: Path, out: Path, *, clip: str | None = None, sidecar: Path | None = None
) -> PublishedFile:
    """Write a checkpoint in its release's layout.

    Args:
        checkpoint: A training file.
        out: The file to write.
        clip: Where its CLIP lies now, if the weights have moved.
        sidecar: What an import left aside; None for the one beside the checkpoint, if there is one.

    Raises:
        ConfigError: ``out`` is the checkpoint itself.
        LexisegError: ``out`` cannot be written.
        CheckpointError: The layout cannot hold this model, or the side-car is of another one.
    """
    require_file_place(out, "--out")
    stored = load_tensors_only(checkpoint)
    info = read_info(stored, checkpoint)
    if is_same_file(out, checkpoint):
        raise ConfigError(f"--out {out} is the checkpoint itself; choose another name")
    how = {key: value for key, value in info.clip.items() if key != "fingerprint"}
    frozen = load_clip(**(how | ({"source": clip} if clip else {})))
    check_same(info, model=info.model, fingerprint=frozen.fingerprint, path=checkpoint)
    beside = checkpoint.with_name(checkpoint.name + SIDECAR_SUFFIX)
    chosen = sidecar or (beside if beside.is_file() else None)
    system = system_called(info.model["name"])
    if system is None:
        published = export_published(stored, info, frozen.tower, chosen)
    else:
        ours = {
            name.removeprefix(MODEL_PREFIX): tensor
            for name, tensor in stored["state_dict"].items()
            if name.startswith(MODEL_PREFIX)
        }
        published = export_system(system, info.model, ours, frozen.tower, chosen)
    write_atomically(out, lambda part: torch.save(published, part))
    return PublishedFile(len(published["state_dict" if system is None else system.container]), chosen)
