"""What the golden tests of SAN share; every size is read from the folder's files."""

import json
from functools import cache
from pathlib import Path

import torch
from fc_clip_cases import folders_with, load
from torch import Tensor

from lexiseg.checkpoints.layouts.san import clip_of_san, detect_san, san_layout
from lexiseg.clip.formats.openai import config_from_openai, model_from_openai
from lexiseg.clip.model import FrozenCLIP
from lexiseg.models.san import SAN
from lexiseg.models.san_settings import SANSettings
from support import golden_folders

VOCABULARY = 49408
WEIGHTS = "san_weights.pt"
FOLDERS = folders_with(WEIGHTS)


@cache
def state_keys() -> dict[str, dict[str, list[int]]]:
    """Full-size models by name, from every file of keys."""
    files = (path for root in golden_folders("two-stage") for path in root.rglob("san_state_dict_keys.json"))
    return {name: keys for path in sorted(files) for name, keys in json.loads(path.read_text()).items()}


class RecordedTokens:
    """Knows the sentences of the file alone; names are stripped before they enter a template."""

    def __init__(self, text) -> None:
        self.rows = {
            template.format(name.strip()): row
            for template, rows in zip(text["templates"], text["tokens"], strict=True)
            for name, row in zip(text["vocabulary"], rows, strict=True)
        }

    def __call__(self, texts, context_length):
        return torch.stack([self.rows[sentence] for sentence in texts])[:, :context_length]


@cache
def clip(folder: Path) -> FrozenCLIP:
    """The contained CLIP with its token embedding, of which only the rows that are used are stored."""
    file = load(folder, WEIGHTS)
    rows, sizes = file["token_embedding_rows"], file["config"]
    tokens = torch.zeros(VOCABULARY, rows.shape[1])
    tokens[file["token_embedding_ids"]] = rows
    state = clip_of_san(file["state_dict"]) | {"token_embedding.weight": tokens}
    config = config_from_openai(
        state,
        activation="quick_gelu",
        vision_heads=sizes["D"] // sizes["head_width"],
        text_heads=sizes["th"],
    )
    model = model_from_openai(state, config)
    return FrozenCLIP(model, RecordedTokens(load(folder, "san_text.pt")), source=str(folder))


@cache
def settings(folder: Path) -> SANSettings:
    """Read off the weights, and from the configuration what no shape tells."""
    file = load(folder, WEIGHTS)
    sizes = file["config"]
    return detect_san(
        file["state_dict"],
        heads=sizes["sh"],
        fusion=[[int(block) for block in pair.split("->")] for pair in sizes["fusion"]],
        decoded=sizes["ds"],
        resolution=sizes["res"],
    )


@cache
def model(folder: Path) -> SAN:
    made = SAN(clip(folder).tower, settings(folder))
    published = load(folder, WEIGHTS)["state_dict"]
    made.load_state_dict(san_layout(made.settings, made.tower).from_published(published))
    return made.eval()


def rows(folder: Path) -> Tensor:
    """The words of the file, one per class."""
    return load(folder, "san_text.pt")["rows"][:-1]
