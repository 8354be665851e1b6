"""What lies beside an exported program: everything that a runtime needs and a graph cannot say.

    model.onnx | model.pt2        the program: images and text embeddings in, mask logits out
    program.json                  inputs, normalisation, settings, split, protocol, templates, the CLIP's name, parity
    text_embeddings.safetensors   unit text embeddings of the split's classes

Nothing in the two files beside the program is code, and nothing in them is run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lexiseg import __version__
from lexiseg.checkpoints.files import EMBEDDINGS, read_embeddings, read_object, write_embeddings
from lexiseg.checkpoints.info import CheckpointInfo, parse_info
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.storage import write_json

ProgramKind = Literal["onnx", "torch"]

CARD = "program.json"
PROGRAM_FILES: dict[ProgramKind, str] = {"onnx": "model.onnx", "torch": "model.pt2"}
FORMAT = 1

_EXPECTED = "a folder that `lexiseg export --to onnx` wrote"


@dataclass(frozen=True)
class ProgramCard:
    """Everything besides the program that is needed to use it. Plain values only.

    Attributes:
        info: The model's settings, CLIP, templates, split and protocol.
        kind: Which runtime the program is for.
        patch_size: Height and width of images are multiples of it.
        smallest_side: In pixels, of an image.
        embed_dim: Channels E of text embeddings.
        mean: RGB mean of the program's images, for values in 0-255.
        std: Their standard deviation.
        parity: How far the program is from the model it was made of.
    """

    info: CheckpointInfo
    kind: ProgramKind
    patch_size: int
    smallest_side: int
    embed_dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    parity: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with a word on inputs and outputs for readers who write their own runtime."""
        patch = self.patch_size
        return {
            **self.info.to_dict(),
            "format": FORMAT,
            "lexiseg_version": __version__,
            "program": self.kind,
            "file": PROGRAM_FILES[self.kind],
            "inputs": {
                "images": f"float32 (batch, 3, height, width): RGB, (0-255 - mean) / std; both sides multiples of {patch}, "
                f"at least {self.smallest_side}; zeros after normalisation pad what is smaller",
                "text": f"float32 (classes, {self.embed_dim}): unit text embeddings of any words",
            },
            "outputs": {
                "logits": f"float32 (batch, classes, height / {patch}, width / {patch}): before any sigmoid"
            },
            "mean": list(self.mean),
            "std": list(self.std),
            "patch_size": patch,
            "smallest_side": self.smallest_side,
            "embed_dim": self.embed_dim,
            "parity": self.parity,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: Path) -> "ProgramCard":
        """The inverse of :meth:`to_dict`.

        Raises:
            CheckpointError: Of a newer lexiseg, or something is missing or is no such value.
        """
        if values.get("format") != FORMAT:
            raise CheckpointError(
                f"{path}: program format {values.get('format')}, this version reads {FORMAT}; update lexiseg or export again"
            )
        try:
            kind = values["program"]
            mean, std = (tuple(float(number) for number in values[key]) for key in ("mean", "std"))
            if kind not in get_args(ProgramKind) or len(mean) != 3 or len(std) != 3 or not all(std):
                raise ValueError(f"program {kind!r}, mean {mean}, std {std}")
            counts = {key: values[key] for key in ("patch_size", "smallest_side", "embed_dim")}
            if not all(isinstance(number, int) and number > 0 for number in counts.values()):
                raise ValueError(f"{counts}")
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: incomplete or damaged ({error!r}); export again") from error
        parity = dict(values.get("parity") or {})
        return cls(parse_info(values, path), kind, **counts, mean=mean, std=std, parity=parity)


def write_card(folder: Path, card: ProgramCard, embeddings: Tensor) -> None:
    """Write both files beside the program.

    Args:
        folder: Of the program.
        card: Its description.
        embeddings: ``(K, E)`` unit text embeddings of the split's classes, in order; K may be 0.
    """
    write_embeddings(folder, embeddings)
    write_json(card.to_dict(), folder / CARD)


def read_card(folder: Path) -> tuple[ProgramCard, Tensor]:
    """The description of the program in ``folder``, and the text embeddings ``(K, E)`` of its split's classes.

    Raises:
        CheckpointError: A file is missing, damaged, or they do not belong together.
    """
    path = folder / CARD
    card = ProgramCard.from_dict(read_object(path, expected=_EXPECTED), path)
    vectors = read_embeddings(folder, len(card.info.split.classes), expected=_EXPECTED)
    expected = (len(card.info.split.classes), card.embed_dim)
    if vectors.shape != expected or vectors.dtype != torch.float32:
        raise CheckpointError(
            f"{folder / EMBEDDINGS}: expected float32 {expected}, got {vectors.dtype} {tuple(vectors.shape)}; export again"
        )
    if not (folder / PROGRAM_FILES[card.kind]).is_file():
        raise CheckpointError(f"{folder}: {PROGRAM_FILES[card.kind]} is missing; copy the whole folder again")
    return card, vectors


def find_program(path: Path | str) -> Path | None:
    """The folder of the program that ``path`` names by its folder or its file; None where it names none.

    Raises:
        CheckpointError: A program without the description that belongs beside it.
    """
    path = Path(path)
    if (path / CARD).is_file():
        return path
    if not path.is_file() or path.suffix not in {Path(name).suffix for name in PROGRAM_FILES.values()}:
        return None
    if not (path.parent / CARD).is_file():
        raise CheckpointError(
            f"{path}: there is no {CARD} beside it, which says how to use the program; give {_EXPECTED}"
        )
    return path.parent


def require_packages(names: Sequence[str], *, purpose: str) -> None:
    """Check for packages that only exported programs need.

    Raises:
        ConfigError: Names those that are not installed, and how to install them.
    """
    absent = [name for name in names if find_spec(name) is None]
    if absent:
        raise ConfigError(
            f"{purpose} needs {', '.join(absent)}, not installed here; run `pip install 'lexiseg[export]'`"
        )
