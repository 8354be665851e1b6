"""Tensors of one weight file, whatever wrote it, read without running anything from it."""

import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lexiseg.clip.formats.torchscript import is_torchscript, read_torchscript_tensors
from lexiseg.errors import CheckpointError


def read_clip_file(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Tensors of a weight file, and whether the file itself is plainly OpenAI's (TorchScript, or its metadata keys).

    Raises:
        CheckpointError: Not readable without running code from it, or no state dict.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path), False
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    if is_torchscript(path):
        return read_torchscript_tensors(path), True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # torch's, of a pickle that it may not know; ours says more
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types here; all mean the same to the user
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: not a weight file that loads without running code from it ({first}); nothing was run"
        ) from error
    state = loaded.get("state_dict", loaded.get("model", loaded)) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: expected a state dict of tensors, got {type(loaded).__name__}")
    state = {name.removeprefix("module."): value for name, value in state.items()}
    return state, "input_resolution" in state
