"""CorrCLIP equals its published implementation on the same random weights, in every file that LEXISEG_GOLDEN's folders hold.

Sizes are read from the files. Two of its slips are put into the ids that ours is given: the smallest of a window counts as
unsegmented, and padding is a region like any other, which may be joined with those that are alike.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_cases import TOLERANCE, assert_close, difference
from test_training_free import load_tower
from torch import Tensor

from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.dense.corrclip import CorrCLIP
from lexiseg.inference.decision import decide
from lexiseg.inference.encoding import _pad
from lexiseg.inference.layout import ImageLayout, WindowLayout
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.affinity import cosine_affinity
from lexiseg.ops.bounded_attention import (
    bounded_weights,
    linked_groups,
    merge_alike,
    region_distances,
    region_means,
)
from lexiseg.ops.grid import resize_position_embedding, tokens_to_map
from lexiseg.ops.region_ids import UNSEGMENTED, ids_at, one_label_per_region, region_ids
from lexiseg.ops.sliding_window import window_grid
from support import golden_folders

FOLDERS = golden_folders("more-training-free")
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("CorrCLIP__*.npz"))]
HALF = 2e-3
"""For entries stored as float16."""

PADDING = 10000
"""The id of padding there."""

STEPS = 56
"""Windows are padded to multiples of it there."""

MERGE = 0.2

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FILES, reason="LEXISEG_GOLDEN names no folder with CorrCLIP"),
]
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")


@cache
def numbers(path: Path) -> dict[str, Tensor]:
    with np.load(path) as archive:
        return {
            name: torch.from_numpy(archive[name])
            for name in archive.files
            if archive[name].dtype.kind in "fiub"
        }


def windows(path: Path) -> list[str]:
    """Names of the single windows in a file."""
    return sorted(key.removesuffix("/dino_feats") for key in numbers(path) if key.endswith("/dino_feats"))


def part(path: Path, name: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{name}/"): value
        for key, value in numbers(path).items()
        if key.startswith(f"{name}/")
    }


def tower_of(path: Path):
    return load_tower(path.parent.parent / "training-free", path.stem.split("__")[1])


def smallest_is_unsegmented(ids: Tensor) -> Tensor:
    """The release's rule: ids of each window from 0 in their order, so that the smallest is 0, whatever it stood for."""
    flat = ids.reshape(-1, *ids.shape[-2:])
    return torch.stack([each.unique(return_inverse=True)[1] for each in flat])


def given(features: Tensor, grid: tuple[int, int]):
    """An external model that answers with what the file holds, whatever it is shown."""
    maps = tokens_to_map(features, grid)
    return lambda images: maps


def grid_of(images: Tensor, count: int) -> tuple[int, int]:
    side = round((images.shape[-2] * images.shape[-1] / count) ** 0.5)
    return images.shape[-2] // side, images.shape[-1] // side


@each_file
@torch.no_grad()
def test_windows(path: Path) -> None:
    tower, text = tower_of(path), numbers(path)["text"]
    assert windows(path)
    for name in windows(path):
        case = part(path, name)
        images, features = case["image"], case["dino_feats"]
        grid = grid_of(images, features.shape[1])
        ids = smallest_is_unsegmented(case["ids"].long())
        on_grid = ids_at(ids, grid)
        if "masks_in" in case:
            assert torch.equal(case["masks_in"].view_as(case["ids"]), case["ids"])
        if "region_distance" in case:
            _, means = region_means(features[0], on_grid.flatten())
            distances = region_distances(means)
            assert_close(distances, case["region_distance"], f"{name} distances")
            assert linked_groups(distances <= MERGE).tolist() == case["cluster"].tolist()
        merged = merge_alike(features[0], on_grid.flatten(), distance=MERGE)[None]
        weights = bounded_weights(cosine_affinity(features), merged, sharpness=4.0)
        assert_close(weights, case["attn_weights"], f"{name} weights")
        encoder = CorrCLIP(tower, proxy=given(features, grid))
        check_streams(encoder, case, merged.view(1, *grid), name)
        branches = torch.cat(encoder.branches(images, weights, merged.view(1, *grid)))
        assert_close(branches, case["branches_before_ln_post"], f"{name} branches")
        assert_close(tower.vision.post_layernorm(branches), case["branches"], f"{name} normed branches")
        state = encoder.encode(images, ids)
        tokens = F.normalize(state.features, dim=1).flatten(2).transpose(1, 2)
        assert_close(tokens, F.normalize(case["tokens"], dim=2), f"{name} tokens")
        logits = encoder.decode(state, text).logits
        assert_close(logits, case["logits_patch"], f"{name} logits")
        up = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        assert_close(up, case["logits_up"].float(), f"{name} upsampled", HALF)


def check_streams(encoder: CorrCLIP, case: dict[str, Tensor], merged: Tensor, name: str) -> None:
    """Copies of the class token, the class token and the patches, block by block."""
    tower, images = encoder.tower, case["image"]
    inside, last = ids_at(merged, tower.grid(images)), tower.depth - 1
    blocked = case["attn_mask_true_is_blocked"]
    first = case["first_block_input_LND"].transpose(0, 1)
    assert_close(
        torch.cat([first[:, : -inside.numel() - 1], encoder.embed(images)], dim=1), first, f"{name} entering"
    )
    seen = [blocked[index, -inside.numel() :] for index in range(len(inside.unique()))]
    expected = [inside.flatten() != value for value in inside.unique()]
    assert torch.equal(torch.stack(seen), torch.stack(expected))
    entering, averaged, copies, own = encoder._run(images, inside)
    assert own.max() + 1 == copies.shape[1] == len(seen)
    prefix = copies.shape[1]
    blocks = {
        int(match[1]): value.transpose(0, 1)
        for key, value in case.items()
        if (match := re.fullmatch(r"block(\d+)_LND", key))
    }
    if not blocks:
        return
    tokens = encoder.embed(images)
    for index in range(tower.depth):
        tokens = tower.block(index, tokens)
        assert_close(tokens, blocks[index][:, prefix:], f"{name} block {index}")
    assert_close(entering, blocks[last - 1][:, prefix:], f"{name} entering the last block")
    assert_close(
        averaged,
        torch.stack([blocks[index][:, prefix:] for index in encoder.averaged]).mean(0),
        f"{name} mean",
    )
    assert_close(copies, blocks[last][:, :prefix], f"{name} copies")


@each_file
@torch.no_grad()
def test_photograph(path: Path) -> None:
    tower, text, case = tower_of(path), numbers(path)["text"], part(path, "pipe")
    images, ids = case["image"], case["ids_at_ori"].long()
    source, working = tuple(case["ori_shape"].tolist()), (images.shape[-2], images.shape[-1])
    crop, stride = case["crop_stride"].tolist()
    assert torch.equal(ids_at(ids, working), case["ids_at_input"].long())
    layout = WindowLayout(source, working, window_grid(working, crop, stride), STEPS, "centre")
    inputs = case["window_images"]
    boxes = layout.windows.boxes
    cut = [_pad(images[..., top:bottom, left:right], layout)[0] for top, left, bottom, right in boxes]
    assert torch.equal(torch.stack(cut), inputs)
    at_input = case["ids_at_input"].long()
    cut = [_pad(at_input[top:bottom, left:right], layout, PADDING) for top, left, bottom, right in boxes]
    assert torch.equal(torch.stack(cut), case["window_ids"][:, 0].long())
    features = dino(path, inputs, dino_heads(path))
    grid = grid_of(inputs, features.shape[1])
    encoder = CorrCLIP(tower, proxy=given(features, grid))
    ids_of_windows = smallest_is_unsegmented(case["window_ids"][:, 0].long())
    logits = encoder.decode(encoder.encode(inputs, ids_of_windows), text).logits
    assert_close(logits, case["window_logits_patch"], "window logits")
    merge = ImageLayout.single(layout).merge((logits,), "linear", 1.0)
    maps = merge.tile(slice(0, source[0]), slice(0, source[1]), slice(0, len(text))).transpose(0, 1)
    assert_close(
        maps,
        case["logits_at_ori"].float(),
        "logits of the photograph",
        HALF if case["logits_at_ori"].dtype == torch.float16 else TOLERANCE,
    )
    settings = [match for key in case if (match := re.fullmatch(r"ls([\d.]+)_p([\d.]+)_bg(\d+)/pred", key))]
    assert settings
    for match in settings:
        background = int(match[3])
        class_ids = (torch.arange(len(text)) - background + 1).clamp(min=0)
        protocol = InferenceProtocol(
            activation="linear",
            logit_scale=float(match[1]),
            probability_threshold=float(match[2]),
            background="class",
        )
        passes = [(slice(0, len(text)), (logits,))]
        labels = torch.from_numpy(
            decide(passes, ImageLayout.single(layout), protocol, class_ids=class_ids)[0].astype(np.int64)
        )
        before = case[f"{match[0]}_before_correction"][0].long()
        assert (labels != before).double().mean() <= 1e-3, match[0]
        corrected = one_label_per_region(before, smallest_is_unsegmented(ids)[0])
        assert torch.equal(corrected, case[match[0]][0].long()), match[0]


def dino(path: Path, images: Tensor, heads: int) -> Tensor:
    """Unit sums of the last queries and keys ``(B, N, C)`` of the file's DINO, of images in CLIP's colours."""
    tower, state = tower_of(path), {key: value.float() for key, value in part(path, "dino").items()}
    mean, std, own_mean, own_std = (
        torch.tensor(each).view(3, 1, 1) for each in (tower.mean, tower.std, IMAGENET_MEAN, IMAGENET_STD)
    )
    weight = state["patch_embed.proj.weight"]
    patches = F.conv2d(
        (images * std + mean - own_mean) / own_std,
        weight,
        state["patch_embed.proj.bias"],
        stride=weight.shape[-1],
    )
    position = resize_position_embedding(
        state["pos_embed"][0], (patches.shape[-2], patches.shape[-1]), "bicubic_offset"
    )
    tokens = (
        torch.cat([state["cls_token"].expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        + position
    )
    depth, width = (
        1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
        tokens.shape[-1],
    )
    for index in range(depth):
        block = {
            key.removeprefix(f"blocks.{index}."): value
            for key, value in state.items()
            if key.startswith(f"blocks.{index}.")
        }

        def linear(name: str, x: Tensor, block=block) -> Tensor:
            return F.linear(x, block[f"{name}.weight"], block[f"{name}.bias"])

        def norm(name: str, x: Tensor, block=block) -> Tensor:
            return F.layer_norm(x, (width,), block[f"{name}.weight"], block[f"{name}.bias"], eps=1e-6)

        query, key, value = linear("attn.qkv", norm("norm1", tokens)).chunk(3, dim=-1)
        if index == depth - 1:
            return F.normalize((query + key)[:, 1:], dim=-1)
        query, key, value = (each.unflatten(2, (heads, -1)).transpose(1, 2) for each in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + linear("attn.proj", mixed)
        tokens = tokens + linear("mlp.fc2", F.gelu(linear("mlp.fc1", norm("norm2", tokens))))
    raise AssertionError("no block")


@cache
def dino_heads(path: Path) -> int:
    """The head count that reproduces the features of a window; it is not stored."""
    case = part(path, windows(path)[0])
    width = case["dino_feats"].shape[-1]
    found = {
        heads: difference(dino(path, case["image"], heads), case["dino_feats"])
        for heads in range(1, width + 1)
        if width % heads == 0
    }
    return min(found, key=lambda heads: found[heads])


@each_file
@torch.no_grad()
def test_dino_of_the_file(path: Path) -> None:
    """The second implementation that the photograph's windows are read with gives the file's own features."""
    for name in windows(path):
        case = part(path, name)
        assert_close(dino(path, case["image"], dino_heads(path)), case["dino_feats"], f"{name} DINO")


@each_file
def test_masks_to_ids(path: Path) -> None:
    case = part(path, "sam2")
    assert torch.equal(region_ids(case["masks"]), case["ids"].long())
    assert (case["ids"] == UNSEGMENTED).any() or (case["masks"].any(0)).all()
