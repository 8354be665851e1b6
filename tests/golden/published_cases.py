"""What the golden tests of the mask models share; all sizes are read from the folder's files.

Head counts are not stored there, so the one that reproduces the first block (or decoder map) is found first.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.checkpoints.published_layout import PROMPTS, published_layout
from lexiseg.checkpoints.published_settings import detect_settings
from lexiseg.clip.formats.openai import vision_config_from_openai, vision_model_from_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.models.registry import build_model
from lexiseg.ops.class_chunks import LinearMerge
from lexiseg.ops.region_merge import RegionMerge
from lexiseg.ops.window_merge import plan_axis
from support import merged_maps

_CLIP_PARTS = ("class_emb", "positional", "proj", "conv1.", "ln_pre.", "ln_post.", "transformer.")
"""Beginnings of the frozen image tower's names in ``backbone.*``."""

Size = tuple[int, int]

TOLERANCE = 1e-4
NOISE = ".multihead_attn.k.bias"
"""In all decoder layers but the last this gradient is zero in theory: rounding noise, not to be compared."""

QUIET = {"prompt_dropout": 0.0, "decoder_dropout": 0.0}


def load(folder: Path, name: str):
    return torch.load(folder / name, weights_only=True)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative to the tensor's own scale."""
    return ((ours.double() - theirs.double()).abs().max() / theirs.abs().max().clamp(min=1e-12)).item()


def assert_close(ours: Tensor, theirs: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Relative to the tensor's own scale."""
    assert ours.shape == theirs.shape, f"{what}: {tuple(ours.shape)} != {tuple(theirs.shape)}"
    worst = difference(ours, theirs)
    assert worst <= tolerance, f"{what}: largest relative difference {worst:.2e}"


def region_axes(masks: Tensor, *, padded: Size, content: Size, size: Size):
    """From masks of a padded image to the photograph: up, the padding off, and on."""
    return [
        plan_axis(starts=(0,), window=part, padded=whole, patches=grid, working=part, source=source)
        for grid, whole, part, source in zip(masks.shape[-2:], padded, content, size, strict=True)
    ]


def full_size_masks(masks: Tensor, **sizes: Size) -> LinearMerge:
    """Logits of regions ``(N, h, w)`` at the photograph's size, as segments are made of."""
    return LinearMerge(masks[None], *region_axes(masks, **sizes))


def semantic_map(masks: Tensor, scores: Tensor, *, sums_travel: bool = False, **sizes: Size) -> Tensor:
    """``(K, H, W)`` as the segmenter sums regions."""
    merge = RegionMerge(masks, scores, *region_axes(masks, **sizes), sums_travel=sums_travel)
    return merged_maps(merge, sizes["size"], scores.shape[-1])


def last_of(names: Iterable[str]) -> str:
    """The name whose numbers are the highest: block 11 comes after block 9, unlike in the order of strings."""
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


@cache
def vision_heads(folder: Path) -> int:
    """The head count that reproduces the first block."""
    visual = clip_visual_state(load(folder, "ckpt_inductive.pth")["state_dict"])
    expected = load(folder, "eval_inductive.pt")
    for heads in _divisors(visual["visual.conv1.weight"].shape[0]):
        block = _tower(visual, heads).block(0, expected["tokens_in_LND"].transpose(0, 1))
        if difference(block, expected["block_out_LND"][0].transpose(0, 1)) < TOLERANCE:
            return heads
    raise AssertionError("no head count reproduces the first block")


def _tower(visual, heads: int) -> VisionTower:
    config = vision_config_from_openai(visual, activation="quick_gelu", heads=heads)
    return VisionTower(vision_model_from_openai(visual, config))


def clip_visual_state(published) -> dict[str, Tensor]:
    """The frozen image tower inside a published checkpoint, under OpenAI's names."""
    names = {name: name.removeprefix("backbone.") for name in published if name.startswith("backbone.")}
    trained = ("proj_layers", "proj_fre")
    return {
        f"visual.{short}": published[name]
        for name, short in names.items()
        if short.startswith(_CLIP_PARTS) and not short.startswith(trained)
    }


@cache
def decoder_heads(folder: Path) -> int:
    """The head count that reproduces the first decoder map; 8 for the spectral decoder, as released."""
    published = load(folder, "ckpt_inductive.pth")["state_dict"]
    expected = load(folder, "eval_inductive.pt")
    if any(".hlfs." in name for name in published):
        return 8
    tower = _tower(clip_visual_state(published), vision_heads(folder))
    for heads in _divisors(tower.embed_dim):
        model = _model(published, tower, heads)
        memory = expected["decoder_memory_NBC"][0].transpose(0, 1)
        with torch.no_grad():
            masks = model.stages[0].decoder.layers[0].attention.similarity(expected["q"][0], memory)
        if difference(masks, expected["decoder_attn_BCN"][0][0]) < TOLERANCE:
            return heads
    raise AssertionError("no head count reproduces the first decoder map")


def _model(published, tower, heads, **settings):
    found = detect_settings(published, tower.depth, decoder_heads=heads)
    model = build_model(found | QUIET | settings, tower)
    model.load_state_dict(published_layout(model.settings, tower).from_published(published))
    return model.eval()


@cache
def case(folder: Path, *, unused: bool = False):
    """Model with the folder's weights, its inputs and the published state dict."""
    published = load(folder, "ckpt_inductive.pth")["state_dict"]
    tower = _tower(clip_visual_state(published), vision_heads(folder))
    model = _model(published, tower, decoder_heads(folder), unused_parameters=unused)
    return model, load(folder, "inputs.pt"), published


def renamed(model) -> dict[str, str]:
    """Published name to ours, for every tensor that has the same values there and here."""
    rows = published_layout(model.settings, model.tower).rows
    whole = (row for row in rows if len(row.ours) == 1 and not row.stacked)
    return {row.name: row.ours[0] for row in whole if row.name not in PROMPTS}


def trained_pairs(model) -> dict[str, str]:
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {t: o for t, o in renamed(model).items() if o in trains}


def is_noise(name: str, model) -> bool:
    return name.endswith(NOISE) and f"layers.{model.settings.decoder_layers - 1}." not in name


def words(inputs, setting: str) -> Tensor:
    text = inputs["text"].float()
    return text[inputs["base_class"]] if setting == "inductive" else text


def labels_for(folder, setting, inputs, logits) -> Tensor:
    """Inductive labels are fixed; transductive ones take pseudo-labels from the current masks."""
    if setting == "inductive":
        return load(folder, "train_inductive.pt")["label_in_loss"].squeeze(1)
    labels = inputs["label"].squeeze(1)
    scores = F.interpolate(
        logits.detach(), size=labels.shape[-2:], mode="bilinear", align_corners=False
    ).sigmoid()
    scores[:, inputs["base_class"]] = -1
    unlabelled = torch.isin(labels, torch.tensor(inputs["novel_class"]))
    return labels.where(~unlabelled, scores.argmax(1))
