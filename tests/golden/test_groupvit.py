"""GroupViT equals its published implementation: towers, assignments, maps, labels, windows, noise of training.

Runs on every folder that LEXISEG_GOLDEN names; sizes, head counts and thresholds are read from the files.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_cases import TOLERANCE, assert_close, difference
from torch import Tensor, nn

from lexiseg.clip.formats.groupvit import groupvit_from_original
from lexiseg.clip.loading import load_clip
from lexiseg.clip.model import FrozenCLIP
from lexiseg.clip.towers.groupvit import GroupVitTextTower, GroupVitTower
from lexiseg.dense import build_dense
from lexiseg.inference.decision import decide
from lexiseg.inference.layout import lay_out
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.grid import resize_position_embedding
from lexiseg.ops.grouping import gumbel_assignment, hard_assignment, owners
from lexiseg.ops.sliding_window import window_grid
from support import golden_folders

CASES = [
    path for folder in golden_folders("more-training-free") for path in sorted(folder.glob("GroupViT__*.npz"))
]
HALF = 2e-3
"""For what is stored in half precision."""

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not CASES, reason="LEXISEG_GOLDEN names no folder with GroupViT"),
    pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem),
]


@cache
def read(path: Path) -> dict[str, Tensor]:
    arrays = np.load(path)
    return {
        name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind in "fiub"
    }


def weights(path: Path) -> Path:
    """Of the same name, or the only ones beside it."""
    own = path.with_suffix(".pt")
    return own if own.is_file() else next(path.parent.glob("GroupViT__*.pt"))


@cache
def stored(path: Path) -> dict[str, Any]:
    return torch.load(weights(path), weights_only=True)


@cache
def load(path: Path) -> FrozenCLIP:
    """By the one door, from the file that holds the release's keys under ``model``."""
    heads = stored(path)["config"]["num_heads"]
    assert len(set(heads)) == 1
    return load_clip(weights(path), vision_heads=heads[0])


@cache
def text_tower(path: Path) -> GroupVitTextTower:
    return GroupVitTextTower(groupvit_from_original(stored(path)["model"]), None)


def images(file: dict[str, Tensor]) -> list[str]:
    return [name.split("/")[0] for name in file if re.fullmatch(r"(?!slide)[^/]+/input", name)]


def tolerance(stored: Tensor) -> float:
    return HALF if stored.dtype == torch.float16 else TOLERANCE


def assert_labels(scores: Tensor, theirs: Tensor, what: str) -> None:
    """The arg-max over axis 1, but where two classes tie to rounding."""
    two = scores.topk(2, dim=1).values
    differs = scores.argmax(dim=1) != theirs
    assert (two[:, 0] - two[:, 1])[differs].le(1e-4 * scores.abs().max()).all(), what
    assert differs.double().mean() <= 1e-2, what


def hooked(tower: GroupVitTower) -> dict[str, tuple[nn.Module, Callable[[Any], Tensor]]]:
    """Parts of the tower, and what of their output stands in the file, under the names of the file."""
    parts: dict[str, tuple[nn.Module, Callable[[Any], Tensor]]] = {
        "patch_embed": (tower.vision.embeddings.layernorm, _same),
        "group_features": (tower.vision.layernorm, _same),
    }
    for number, stage in enumerate(tower.vision.encoder.stages):
        parts |= {f"stage{number}/block{block}": (layer, _same) for block, layer in enumerate(stage.layers)}
        if stage.group_projector is not None:
            parts[f"stage{number}/group_projector"] = (stage.group_projector, _same)
        grouping = stage.downsample
        if grouping is not None:
            parts |= {
                f"stage{number}/mlp_inter_transposed": (grouping.mlp_inter, lambda out: out.transpose(1, 2)),
                f"stage{number}/pre_assign": (grouping.pre_assign_attn, _same),
                f"stage{number}/assign_out": (grouping.assign, lambda out: out[0]),
                f"stage{number}/soft": (grouping.assign, lambda out: out[1][:, None]),
                f"stage{number}/output": (grouping, lambda out: out[0]),
            }
    return parts


def _same(output: Any) -> Any:
    return output


def inner_values(tower: GroupVitTower, image: Tensor) -> dict[str, Tensor]:
    """What the tower's parts give on the way, under the names of the file."""
    kept: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, (module, pick) in hooked(tower).items():

            def hook(_module, _inputs, output, name=name, pick=pick) -> None:
                kept[name] = pick(output).clone()

            stack.callback(module.register_forward_hook(hook).remove)
        found = tower.groups(image)
    kept["image_feat"], kept["image_x"] = found.embeddings, found.image
    position = tower.vision.embeddings.position_embeddings[0]
    kept["pos_embed"] = resize_position_embedding(position, tower.grid(image), "bicubic", prefix=0)[None]
    for number in (0, 1):
        kept[f"stage{number}/hard"] = hard_assignment(kept[f"stage{number}/soft"].log())
    first = kept["stage0/soft"][:, 0].unflatten(2, tower.grid(image))
    for number, maps in ((0, first), (1, found.maps)):
        resized = F.interpolate(maps, size=image.shape[-2:], mode="bilinear", align_corners=False)
        kept[f"attn_map{number}_hwg"] = resized.movedim(1, -1)
    return kept


@torch.no_grad()
def test_tower_equals_published(path: Path) -> None:
    file, tower = read(path), load(path).tower
    for image in images(file):
        found = inner_values(tower, file[f"{image}/input"])
        asked = [
            name
            for name in file
            if name.startswith(f"{image}/")
            and not re.search(r"/(input|group_labels|zero_shot_logits|pred|pred_logits)$", name)
        ]
        assert len(asked) > 20
        for name in asked:
            assert_close(
                found[name.removeprefix(f"{image}/")], file[name].float(), name, tolerance(file[name])
            )


@torch.no_grad()
def test_segmentation_equals_published(path: Path) -> None:
    file, tower = read(path), load(path).tower
    words = file["seg/text_embedding"]
    for name in images(file):
        image = file[f"{name}/input"]
        size = (image.shape[-2], image.shape[-1])
        groups = tower.groups(image)
        maps = F.interpolate(groups.maps, size=size, mode="bilinear", align_corners=False)
        assert_labels(maps, file[f"{name}/group_labels"], f"{name}/group_labels")
        agrees = owners(groups.maps, size) == file[f"{name}/group_labels"]
        cosines = F.normalize(groups.image, dim=-1) @ words.T
        assert_close(cosines, file[f"{name}/zero_shot_logits"], f"{name}/zero_shot_logits")
        for key in (key for key in file if re.fullmatch(rf"{name}/(nobg|bg[\d.]+)/pred_logits", key)):
            rule = key.split("/")[1]
            threshold = None if rule == "nobg" else float(rule.removeprefix("bg"))
            reading = build_dense("groupvit", tower, background_threshold=threshold)
            asked = words if threshold is None else torch.cat([words.new_zeros(1, words.shape[1]), words])
            logits = reading(image, asked)
            assert_close(logits * agrees[:, None], file[key] * agrees[:, None], key)
            assert_labels(logits, file[key.removesuffix("_logits")], key)
            together = reading(torch.cat([image.flip(-1), image]), asked)
            assert difference(together[1:], logits) <= 1e-5


@torch.no_grad()
def test_windows_equal_published(path: Path) -> None:
    """Sum by count, resized, soft-max, arg-max: our own way from windows to labels."""
    file, tower = read(path), load(path).tower
    if "slide/input" not in file:
        pytest.skip("no windows in this file")
    image, words = file["slide/input"], file["seg/text_embedding"]
    working, source = (tuple(file[key].shape[-2:]) for key in ("slide/input", "slide/probs_at_ori"))
    window = stored(path)["config"]["img_size"]
    stride = window // 2  # as the folder's README says
    boxes = window_grid(working, window, stride).boxes
    windows = torch.cat([image[..., top:bottom, left:right] for top, left, bottom, right in boxes])
    asked = torch.cat([words.new_zeros(1, words.shape[1]), words])
    reading = build_dense("groupvit", tower, background_threshold=0.95)
    logits = reading(windows, asked)
    total, count = torch.zeros_like(file["slide/mean"]), torch.zeros(1, 1, *working)
    for (top, left, bottom, right), each in zip(boxes, logits, strict=True):
        total[0, :, top:bottom, left:right] += each
        count[..., top:bottom, left:right] += 1
    assert_close(total / count, file["slide/mean"], "slide/mean")
    protocol = InferenceProtocol(
        short_side=min(working), window=window, stride=stride, activation="linear", background="class"
    )
    layout = lay_out(source, protocol, tower.patch_size)
    assert layout.windows[0].working == working
    passes = [(slice(0, len(asked)), (logits,))]
    decided = decide(passes, layout, protocol, class_ids=torch.arange(len(asked)))
    theirs = file["slide/probs_at_ori"].float()
    assert_close(torch.from_numpy(decided.scores)[None], theirs.amax(dim=1), "slide/probs_at_ori", HALF)
    differs = torch.from_numpy(decided.labels.astype(np.int64))[None] != file["slide/pred"]
    two = theirs.topk(2, dim=1).values
    assert (two[:, 0] - two[:, 1])[differs].le(HALF).all()
    assert differs.double().mean() <= 1e-2


@torch.no_grad()
def test_words_equal_published(path: Path) -> None:
    """Classes are the mean over templates before any sentence has unit length."""
    file, tower = read(path), text_tower(path)
    tokens = file["text/tokens"]
    ids = tokens.flatten(0, 1)
    assert_close(tower.text(input_ids=ids).pooler_output, file["text/encoder"], "text/encoder")
    projected = tower(ids)
    assert_close(projected, file["text/projected"], "text/projected")
    assert_close(tower(tower.shorten(ids)), file["text/projected"], "without padding")
    sentences = projected.unflatten(0, tokens.shape[:2])
    assert not tower.unit_sentences
    assert_close(F.normalize(sentences.mean(dim=1), dim=-1), file["text/embedding"], "text/embedding")
    one = F.normalize(sentences[:, 0], dim=-1)
    assert_close(one, file["text/embedding_one_template"], "text/embedding_one_template")


@torch.no_grad()
def test_transformers_numbers_of_the_same_weights(path: Path) -> None:
    file, clip = read(path), load(path)
    embeds = file["transformers/text_embeds"]
    own = F.normalize(text_tower(path)(file["text/tokens"][:, 0]), dim=-1)
    assert_close(own, embeds, "transformers/text_embeds")
    image = next(name for name in file if name.startswith("transformers/segmentation_logits_")).split("_")[-1]
    found = clip.logit_scale * F.normalize(clip.tower(file[f"{image}/input"]), dim=-1) @ embeds.T
    assert_close(found, file["transformers/logits_per_image"], "transformers/logits_per_image")


def test_noise_of_training_equals_published(path: Path) -> None:
    file = read(path)
    found = gumbel_assignment(file["gumbel/raw"], file["gumbel/noise"])
    assert_close(found, file["gumbel/hard"], "gumbel/hard")
