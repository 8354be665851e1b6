"""Mask prompt tokens beside the CLIP that they were tuned on."""

from pathlib import Path

from torch import Tensor

from lexiseg.checkpoints.files import read_tensors, write_tensors
from lexiseg.errors import CheckpointError

FILE = "mask_prompts.safetensors"
"""In the folder of a CLIP."""

_NAME = "tokens"


def write_mask_prompts(tokens: Tensor, folder: Path) -> None:
    """Write tokens ``(depth, P, D)`` into a CLIP's folder."""
    write_tensors(folder / FILE, {_NAME: tokens})


def read_mask_prompts(clip: str | Path) -> Tensor | None:
    """The tokens in a CLIP's folder; None where there are none, or it is no folder.

    Raises:
        CheckpointError: The file is damaged or holds something else.
    """
    path = Path(clip) / FILE
    if not path.is_file():
        return None
    tensors = read_tensors(path, expected="mask prompt tokens of `lexiseg maskadapt`")
    if set(tensors) != {_NAME} or tensors[_NAME].ndim != 3:
        raise CheckpointError(
            f"{path}: expected '{_NAME}' of three axes, as `lexiseg maskadapt` writes, got {', '.join(tensors) or 'nothing'}"
        )
    return tensors[_NAME]
