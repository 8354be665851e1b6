"""What the golden tests of FC-CLIP share; every size is read from the folder's files."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lexiseg.checkpoints.layouts.fc_clip import clip_of_fc_clip, detect_fc_clip, fc_clip_layout
from lexiseg.clip.formats.open_clip import convnext_from_open_clip
from lexiseg.clip.formats.openai_resnet import is_resnet_layout, resnet_from_openai
from lexiseg.clip.model import FrozenCLIP
from lexiseg.models.fc_clip import FCClip
from lexiseg.types import ClassWords
from support import golden_folders

VOCABULARY = 49408
WEIGHTS = "fcclip_weights.pt"


def folders_with(name: str) -> list[Path]:
    """Every folder under ``two-stage`` that holds this file."""
    found = (path.parent for root in golden_folders("two-stage") for path in root.rglob(name))
    return sorted(set(found))


@cache
def load(folder: Path, name: str):
    return torch.load(folder / name, weights_only=True)


@cache
def state_keys() -> dict[str, dict[str, list[int]]]:
    """Full-size models by name, from every file of keys."""
    files = (
        path for root in golden_folders("two-stage") for path in root.rglob("fcclip_state_dict_keys.json")
    )
    return {name: keys for path in sorted(files) for name, keys in json.loads(path.read_text()).items()}


class RecordedTokens:
    """Knows the sentences of the file alone."""

    def __init__(self, text) -> None:
        self.rows = dict(zip(text["test_texts"], text["test_tokens"], strict=True))

    def __call__(self, texts, context_length):
        return torch.stack([self.rows[sentence] for sentence in texts])[:, :context_length]


@cache
def clip_state(folder: Path) -> dict[str, Tensor]:
    """The contained CLIP with its token embedding, of which only the rows that are used are stored."""
    file = load(folder, WEIGHTS)
    state = clip_of_fc_clip(file["state_dict"])
    rows = file["token_embedding_rows"]
    tokens = torch.zeros(VOCABULARY, rows.shape[1])
    tokens[file["token_embedding_ids"]] = rows
    return state | {"token_embedding.weight": tokens}


def clip_model(
    state: Mapping[str, Tensor], *, text_heads: int | None = None, vision_heads: int | None = None
):
    """The CLIP of a contained state dict, whichever image tower it has."""
    if is_resnet_layout(state):
        return resnet_from_openai(state, vision_heads=vision_heads, text_heads=text_heads)
    return convnext_from_open_clip(state, text_heads=text_heads, image_size=96)


@cache
def clip(folder: Path) -> FrozenCLIP:
    state, config = clip_state(folder), load(folder, WEIGHTS)["config"]
    heads = None
    if is_resnet_layout(state):
        heads = len(state["visual.attnpool.q_proj.bias"]) // config["head_width"]
    model = clip_model(state, text_heads=config["th"], vision_heads=heads)
    return FrozenCLIP(model, RecordedTokens(load(folder, "fcclip_text.pt")), source=str(folder))


@cache
def model(folder: Path) -> FCClip:
    published = load(folder, WEIGHTS)["state_dict"]
    made = FCClip(clip(folder).tower, detect_fc_clip(published))
    made.load_state_dict(fc_clip_layout(made.settings, made.tower).from_published(published))
    return made.eval()


def class_words(rows: Tensor, counts: list[int], seen: Tensor | None = None) -> ClassWords:
    ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return ClassWords(rows, ids, torch.zeros(len(counts), dtype=torch.bool) if seen is None else seen.bool())


def evaluated_words(folder: Path) -> ClassWords:
    text = load(folder, "fcclip_text.pt")
    return class_words(text["test_rows"], text["test_synonyms"], text["overlap"])


def trained_words(folder: Path) -> ClassWords:
    text = load(folder, "fcclip_text.pt")
    return class_words(text["train_rows"], text["train_synonyms"])


def photographs(case) -> list[Tensor]:
    """The raw images of a case, in order."""
    return [case[f"input/{i}/image_u8"] for i in range(len(case)) if f"input/{i}/image_u8" in case]


def batch(fc_clip: FCClip, images: list[Tensor]) -> Tensor:
    """Normalised, then padded with zeros to a multiple of 32 that holds all."""
    height, width = (
        -(-max(image.shape[axis] for image in images) // fc_clip.patch_size) * fc_clip.patch_size
        for axis in (1, 2)
    )
    padded = torch.zeros(len(images), 3, height, width)
    for row, image in zip(padded, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = fc_clip.normalize(image[None].float())[0]
    return padded
