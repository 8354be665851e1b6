"""What the golden tests of models of the MaskFormer family share; every size is read from the folder's files."""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from published_cases import assert_close
from torch import Tensor

from lexiseg.clip.formats.openai import config_from_openai, model_from_openai
from lexiseg.clip.tokenizer import openai_tokenizer
from lexiseg.clip.towers.text import ClipTextTower
from lexiseg.clip.towers.vit import VisionTower
from support import GOLDEN_VARIABLE, golden_folders

FILES = ("weights.npz", "inputs.npz", "eval.npz", "train.npz", "config.json")
STRIDE = 32
NOISE = 1e-7
"""Of the largest gradient: what lies below is rounding."""


def folders(marker: str) -> list[Path]:
    """Folders of LEXISEG_GOLDEN, however deep, whose configuration holds the key ``marker``."""
    roots = [Path(part) for part in os.environ.get(GOLDEN_VARIABLE, "").split(os.pathsep) if part]
    found = []
    for path in sorted({path for root in roots for path in root.rglob("config.json")}):
        holds_all = all((path.parent / name).is_file() for name in FILES)
        if holds_all and marker in json.loads(path.read_text()):
            found.append(path.parent)
    return found


@cache
def config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


@cache
def numbers(folder: Path, name: str) -> dict[str, Tensor]:
    """Arrays of an ``.npz`` by name; half precision, in which only exact values are stored, as float32."""
    with np.load(folder / f"{name}.npz") as archive:
        tensors = {key: torch.from_numpy(archive[key]) for key in archive.files}
    return {key: each.float() if each.dtype == torch.float16 else each for key, each in tensors.items()}


def tower_of(state: dict[str, Tensor], clip: dict) -> VisionTower:
    """The image tower of a CLIP in OpenAI's names; heads are not stored with the weights."""
    settings = config_from_openai(
        state,
        activation="quick_gelu",
        vision_heads=clip["vision_heads"],
        text_heads=clip["text_heads"],
    )
    return VisionTower(model_from_openai(state, settings))


def text_of(
    state: dict[str, Tensor], clip: dict, names: list[str], templates: tuple[str, ...]
) -> list[Tensor]:
    """Unit embeddings of every name in every template, by the text tower of a CLIP in OpenAI's names: one ``(T, E)`` a name."""
    settings = config_from_openai(
        state, activation="quick_gelu", vision_heads=clip["vision_heads"], text_heads=clip["text_heads"]
    )
    (vocabulary,) = golden_folders("clip")[:1]
    tokenizer = openai_tokenizer(vocabulary / "bpe_simple_vocab_16e6.txt.gz")
    tower = ClipTextTower(model_from_openai(state, settings), tokenizer)
    return [tower.encode([template.replace("{}", name) for template in templates]) for name in names]


def padded_images(folder: Path, prefix: str, model) -> tuple[Tensor, list[tuple[int, int]]]:
    """The pictures of a batch as it is run: normalised, then padded with zeros to multiples of 32. And their own sizes."""
    inputs = numbers(folder, "inputs")
    count = sum(name.startswith(f"{prefix}image") for name in inputs)
    images = [inputs[f"{prefix}image{index}"] for index in range(count)]
    sizes = [tuple(image.shape[1:]) for image in images]
    height, width = (-(-max(side) // STRIDE) * STRIDE for side in zip(*sizes, strict=True))
    padded = [
        F.pad(model.normalize(image.float()), (0, width - image.shape[2], 0, height - image.shape[1]))
        for image in images
    ]
    return torch.stack(padded), sizes


def out_size(folder: Path, index: int) -> tuple[int, int]:
    height, width = numbers(folder, "inputs")["out_sizes"][index].tolist()
    return height, width


def compare_gradients(model, layout, given: dict[str, Tensor]) -> set[str]:
    """Every gradient that the file names equals ours; returns their published names.

    Zero in theory, and so left to an absolute tolerance: those of the biases of keys, and in the first layer's self-attention,
    whose values are all the same, those of queries and keys.
    """
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    published = layout.to_published(gradients)
    named = {name.removeprefix("grad/") for name in given if name.startswith("grad/")}
    largest = max(given[f"grad/{name}"].abs().max() for name in named)
    for name in named:
        ours, theirs = published[name], given[f"grad/{name}"]
        if name.endswith(("in_proj_bias", "qkv.bias")):
            ours, theirs = (torch.cat([each.chunk(3)[0], each.chunk(3)[2]]) for each in (ours, theirs))
        if theirs.abs().max() < NOISE * largest:
            assert ours.abs().max() < NOISE * largest, f"gradient of {name}"
        else:
            assert_close(ours, theirs, f"gradient of {name}")
    return named
