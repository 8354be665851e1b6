"""The two kinds of file that published folders are made of, safetensors and JSON: whole when written, checked when read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lexiseg.errors import CheckpointError
from lexiseg.storage import write_atomically

EMBEDDINGS = "text_embeddings.safetensors"
"""Unit text embeddings of the classes of a model's split, in order."""

_VECTORS = "vectors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors, each with memory of its own."""
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, lambda part: save_file(own, part, metadata={"format": "pt"}))


def read_tensors(path: Path, *, expected: str) -> dict[str, Tensor]:
    """Named tensors.

    Args:
        path: The file.
        expected: What the folder should be, for the message.

    Raises:
        CheckpointError: Missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; expected {expected}, whole")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged or no safetensors file ({error}); nothing from it was run. Copy the folder again"
        ) from error


def write_embeddings(folder: Path, vectors: Tensor) -> None:
    """Write ``(K, D)`` text embeddings; K may be 0."""
    write_tensors(folder / EMBEDDINGS, {_VECTORS: vectors})


def read_embeddings(folder: Path, classes: int, *, expected: str) -> Tensor:
    """Text embeddings ``(K, D)``, a row for each class.

    Raises:
        CheckpointError: Missing, damaged, or of another number of classes.
    """
    path = folder / EMBEDDINGS
    vectors = read_tensors(path, expected=expected).get(_VECTORS)
    if vectors is None or vectors.ndim != 2 or len(vectors) != classes:
        got = "none" if vectors is None else tuple(vectors.shape)
        raise CheckpointError(
            f"{path}: expected '{_VECTORS}' with a row for each of the {classes} classes, got {got}; remove the file, and "
            "the CLIP will make them anew, or export again"
        )
    return vectors


def read_object(path: Path, *, expected: str) -> dict[str, Any]:
    """The entries of a JSON file.

    Raises:
        CheckpointError: Missing, damaged, or no JSON object.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.parent}: no {path.name} in it; expected {expected}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: damaged, no readable JSON ({error}); copy the folder again"
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(values).__name__}; export again")
    return values
