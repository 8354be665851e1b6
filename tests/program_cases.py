"""Tiny trained models to export, on a random CLIP with the toy tokenizer."""

import importlib.resources
import shutil
from pathlib import Path

import torch
from transformers import CLIPModel

from lexiseg.checkpoints.training_file import CHECKPOINT_KEY, MODEL_PREFIX, CheckpointInfo
from lexiseg.clip.loading import load_clip
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.registry import MODELS, build_model, model_settings
from lexiseg.models.san_settings import SANSettings
from lexiseg.types import ClassSplit
from support import tiny_clip_config

CLASSES = ("red circle", "blue square", "bricks")
SETTINGS = {"prompt_length": 2, "decoder_heads": 2, "decoder_layers": 1, "spectral_grid": 5}
VARIANTS = {
    "cascade_clip": {
        "name": "cascade_clip",
        "stages": [[1], [2]],
        "decoder_layers": 2,
        "unused_parameters": True,
    },
    "zegclip": {"name": "zegclip", "stages": [[2]], "normalization": "clip"},
    "frozen_clip": {
        "name": "frozen_clip",
        "stages": [[1], [2]],
        "projection": "clip",
        "aggregation": "attention",
        "queries": "shared",
    },
    "spt_seg": {"name": "spt_seg", "stages": [[1]], "decoder_layers": 2, "unused_parameters": True},
    "concat": {"name": "cascade_clip", "stages": [[1, 2]], "aggregation": "concat"},
}
"""Between them every kind of part that a model can have; tracing takes seconds, so each is as small as can be."""

SMALL_LSEG = {
    "patch_size": 4,
    "grid": 5,
    "width": 12,
    "heads": 3,
    "mlp_width": 20,
    "taps": [1, 2, 3, 4],
    "reassembled": [5, 6, 7, 8],
    "features": 11,
}
"""An LSeg of a few thousand weights, whose images are multiples of 8 as those of the tiny CLIPs are."""

SMALL_OPEN_SEG = {
    "stem": 8,
    "stages": [8, 20, 24, 28],
    "depths": [1, 1, 1, 1],
    "features": 12,
    "queries": 5,
    "query_layers": 2,
    "query_heads": 3,
    "query_feedforward": 17,
    "temperature": 0.5,
}
"""An OpenSeg of a few thousand weights, untrained: at the published temperature one class would take everything."""

SMALL_SAN = {
    "queries": 5,
    "width": 14,
    "depth": 2,
    "heads": 2,
    "hidden": 22,
    "patch": 8,
    "grid": 5,
    "early_blocks": 1,
    "fusion": [[0, 0], [1, 1]],
    "decoded": [1, 2],
    "decoder_hidden": 11,
    "decoder_width": 13,
}
"""SAN for a tower of two blocks and images of odd sizes."""

SANS = [name for name, entry in MODELS.items() if isinstance(entry.settings, SANSettings)]

CASCADES = [name for name, entry in MODELS.items() if isinstance(entry.settings, CascadeSettings)]
"""The registered models that are choices of Cascade-CLIP's parts."""


def random_clip(depth: int = 2, **text: int) -> CLIPModel:
    """Patches of 8, 40 pixels; weights large enough that every part of it matters."""
    torch.manual_seed(0)
    config = tiny_clip_config(depth=depth)
    for key, value in text.items():
        setattr(config.text_config, key, value)
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def variant(name, tower=None):
    """A random model of :data:`VARIANTS`, ready to answer."""
    settings = SETTINGS | VARIANTS[name]
    tower = tower or VisionTower(random_clip(depth=settings["stages"][-1][-1]))
    torch.manual_seed(9)  # under which the gates of the spectral decoder let every patch through
    model = build_model(settings, tower).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save_checkpoint(folder: Path, name: str = "zegclip", **changes) -> Path:
    """A checkpoint of a random model and, in ``folder/clip``, the CLIP it stands on, which knows the toy's words.

    ``changes`` replace what its description says of templates, split or protocol.
    """
    clip_folder = folder / "clip"
    random_clip(
        vocab_size=763, bos_token_id=761, eos_token_id=762, pad_token_id=762, max_position_embeddings=24
    ).save_pretrained(clip_folder)
    toy = Path(str(importlib.resources.files("lexiseg") / "assets" / "toy_clip"))
    for file in ("merges.txt", "vocab.json", "tokenizer.json", "tokenizer_config.json", "known_words.txt"):
        shutil.copy(toy / file, clip_folder / file)
    clip = load_clip(clip_folder)
    model = variant(name, clip.vision)
    description = {
        "templates": ("a {}.",),
        "split": ClassSplit("tiny", CLASSES, unseen=("bricks",)),
        "protocol": {
            "name": "tiny",
            "window": 40,
            "stride": 24,
            "seen_penalty": 0.1,
            "precision": "bfloat16",
        },
    }
    info = CheckpointInfo(
        model=model_settings(model),
        clip={"source": str(clip_folder), "fingerprint": clip.fingerprint},
        **{**description, **changes},
    )
    state = {MODEL_PREFIX + key: tensor for key, tensor in model.state_dict().items()}
    torch.save({CHECKPOINT_KEY: info.to_dict(), "state_dict": state}, folder / "last.ckpt")
    return folder / "last.ckpt"
