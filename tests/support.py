"""Where golden numbers lie, and tiny CLIPs made on the spot."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig

from lexiseg.ops.class_chunks import TileSource

GOLDEN_VARIABLE = "LEXISEG_GOLDEN"

SMALL_GOLDEN = Path(__file__).parent / "golden" / "small"
"""What `scripts/make_small_golden.py` wrote: in ``published`` numbers of published implementations that need no weights,
in ``ours`` our own at a commit that agreed with all of them."""


def slow_but(cases: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Cases of a test of which only some run in the default suite, the others with the slow tests."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def golden_folders(kind: str) -> list[Path]:
    """Folders named by LEXISEG_GOLDEN (several separated by ':') that hold ``kind``."""
    roots = [Path(part) for part in os.environ.get(GOLDEN_VARIABLE, "").split(os.pathsep) if part]
    candidates = [root / kind for root in roots] + [root for root in roots if root.name == kind]
    return [folder for folder in candidates if folder.is_dir()]


def golden_files(kind: str, pattern: str) -> list[Path]:
    """Files of published numbers of one kind: those committed, and those of every folder that LEXISEG_GOLDEN names."""
    folders = [SMALL_GOLDEN / "published" / kind, *golden_folders(kind)]
    return [path for folder in folders for path in sorted(folder.glob(pattern))]


def load_numbers(path: Path) -> dict[str, Any]:
    """Tensors and plain values of a ``.pt`` file, or the numbers of an ``.npz`` whose names nest by ``/``."""
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    nested: dict[str, Any] = {}
    with np.load(path) as archive:
        for name in (name for name in archive.files if archive[name].dtype.kind in "fiub"):
            *outer, last = name.split("/")
            inner = nested
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[last] = torch.from_numpy(archive[name])
    return nested


def tiny_clip_config(
    *, depth: int = 3, width: int = 24, heads: int = 3, patch: int = 8, image_size: int = 40
):
    """A CLIP of a few thousand weights; width, text width and embedding all differ."""
    vision = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": image_size,
        "projection_dim": 16,
    }
    text = {
        "hidden_size": 20,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 13,
        "vocab_size": 97,
        "bos_token_id": 95,
        "eos_token_id": 96,
        "projection_dim": 16,
    }
    return CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)


def merged_maps(merge: TileSource, size: tuple[int, int], words: int) -> Tensor:
    """All scores ``(M, H, W)`` at once, which the library itself never holds."""
    return merge.tile(slice(0, size[0]), slice(0, size[1]), slice(0, words)).transpose(0, 1)
