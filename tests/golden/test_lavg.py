"""LaVG equals its published implementation: cuts, what follows a refinement, and late matching.

Runs on every folder that LEXISEG_GOLDEN names. Sizes and settings are read from the files. The release's solver starts at
random, so each step is tested from the vector that it found; the vector of ours is compared with an exact solver's, and a
whole run with the masks, as far as a vector is determined at all.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_cases import assert_close, difference
from torch import Tensor
from transformers import ViTConfig, ViTModel

from lexiseg.clip.formats.openai import vision_config_from_openai, vision_model_from_openai
from lexiseg.clip.towers.external import ExternalVision
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.dense import build_dense
from lexiseg.dense.base import DenseState, cosines
from lexiseg.inference.decision import decide
from lexiseg.inference.layout import ImageLayout, WindowLayout
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.masks.normalized_cut import resize_mask, squared
from lexiseg.ops.grid import resize_position_embedding
from lexiseg.ops.late_matching import first_region, match_late
from lexiseg.ops.mask_pooling import pool_by_masks
from lexiseg.ops.normalized_cut import (
    above_mean,
    corners_in,
    cut_vector,
    object_side,
    patch_graph,
    piece_at,
    seed_of,
    settled,
)
from lexiseg.ops.region_ids import ids_at
from lexiseg.ops.sliding_window import window_grid
from support import golden_folders, load_numbers

HALF = 2e-3
"""For what is stored as float16."""

FOLDERS = golden_folders("more-training-free")
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("LaVG__*.npz"))]

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FILES, reason="LEXISEG_GOLDEN names no folder with LaVG's numbers"),
]

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")


def steps(run: dict) -> Iterator[dict]:
    """Of a run of cuts, first to last."""
    names = sorted((name for name in run if name.startswith("step")), key=lambda name: int(name[4:]))
    return (run[name] for name in names)


def cuts(file: dict) -> Iterator[tuple[str, dict, np.ndarray, float, int]]:
    """Name and steps of each run, with its features ``(C, h, w)``, threshold and most masks."""
    for name, run in file.items():
        if not isinstance(run, dict) or "step0" not in run or "eigvec" not in run["step0"]:
            continue
        features = file["cut"]["key_features"] if name == "cut" else file["given"]["features"]
        grid = run["step0"]["mask"].shape
        tau, most = float(file["cut"]["tau"]), int(file["cut"]["N"])
        if match := re.fullmatch(r"given_tau(\d)(\d+)_N(\d+)", name):
            tau, most = float(f"{match[1]}.{match[2]}"), int(match[3])
        yield name, run, features.numpy().reshape(-1, *grid), tau, most


@each_file
def test_every_step_of_the_cuts(path: Path) -> None:
    compared = 0
    for name, run, features, tau, most in cuts(load_numbers(path)):
        flat, free = features.reshape(len(features), -1), np.ones(features.shape[1:], dtype=bool)
        found = []
        for number, step in enumerate(steps(run)):
            what = f"{name} step {number}"
            weights = patch_graph(flat[:, free.ravel()], threshold=tau)
            assert_close(torch.from_numpy(weights.sum(axis=1)), step["affinity_degree"], what)
            vector = step["eigvec"].numpy()
            side = above_mean(vector, free)
            assert (side.ravel() == step["bipartition"].numpy().ravel()).all(), what
            assert corners_in(side) == int(step["corners"]), what
            turned, final = object_side(vector, side, free)
            assert (final == step["final_bipartition"].numpy()).all(), what
            row, column = seed_of(turned, free)
            assert row * free.shape[1] + column == int(step["seed"]), what
            found.append(piece_at(final, (row, column)))
            assert (found[-1] == step["mask"].numpy()).all(), what
            free &= ~found[-1]
            compared += 1
        assert len(found) == most or free.sum() <= 5
        size = run["masks_at_image"].shape[1:] if "masks_at_image" in run else None
        if size is not None:
            enlarged = F.interpolate(torch.from_numpy(np.stack(found))[:, None].float(), size=tuple(size))
            assert (enlarged[:, 0].bool() == run["masks_at_image"]).all(), name
    assert compared


@each_file
def test_our_vectors_are_the_exact_ones_and_give_the_published_masks(path: Path) -> None:
    """As long as the eigenvalue is a single one; masks where the published vector is the exact one up to its sign."""
    compared = 0
    for name, run, features, tau, _ in cuts(load_numbers(path)):
        flat, free = features.reshape(len(features), -1), np.ones(features.shape[1:], dtype=bool)
        for number, step in enumerate(steps(run)):
            what = f"{name} step {number}"
            second, third = step["eigvals_exact"][1:3].tolist()
            if third - second < 1e-3:
                free &= ~step["mask"].numpy()
                continue
            weights = patch_graph(flat[:, free.ravel()], threshold=tau).astype(np.float64)
            ours = cut_vector(weights)
            value = ours @ (weights.sum(axis=1) * ours) - ours @ weights @ ours
            assert value == pytest.approx(second, abs=1e-6), what
            exact = step["eigvec_exact"].double()
            sign = torch.sign(exact[exact.abs().argmax()])
            # Below, the file's own degrees, in float32, leave the trivial solution in it.
            assert_close(torch.from_numpy(ours), exact * sign, what, 1e-4 if second > 1e-3 else 1e-2)
            masks = set()
            for vector in (step["eigvec"].numpy(), -step["eigvec"].numpy()):
                turned, side = object_side(vector, above_mean(vector, free), free)
                masks.add(piece_at(side, seed_of(turned, free)).tobytes())
            turned, side = object_side(ours, above_mean(ours, free), free)
            mask = piece_at(side, seed_of(turned, free))
            converged = bool(step["agree"])  # the release's solver
            assert mask.tobytes() in masks or not converged, what
            if len(masks) == 1 and converged:  # whatever sign the release's solver gave
                assert (mask == step["mask"].numpy()).all(), what
            free &= ~step["mask"].numpy()
            compared += 1
    assert compared


@each_file
def test_photograph_and_keys(path: Path) -> None:
    cut = load_numbers(path)["cut"]
    square = squared(cut["image_u8_rgb"].numpy(), cut["resized_u8"].shape[0])
    assert (square == cut["resized_u8"].numpy()).all()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    images = ((torch.tensor(square).permute(2, 0, 1).float() / 255 - mean) / std)[None]
    assert_close(images, cut["input"], "input")
    width = cut["key_features"].shape[0]
    differences = []
    for heads in (number for number in range(1, width + 1) if width % number == 0):
        tower = original_dino(cut["dino"], heads, images.shape[-1])
        with torch.no_grad():
            _, keys = tower.queries_and_keys(images)
        differences.append(difference(keys[0].flatten(1), cut["key_features"]))
    assert min(differences) <= 1e-4, f"no head count gives the keys; nearest {min(differences):.2e}"


def flat_names(nested: dict, before: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in nested.items():
        whole = f"{before}{name}"
        yield from flat_names(value, f"{whole}.") if isinstance(value, dict) else [(whole, value.float())]


def original_dino(nested: dict, heads: int, side: int) -> ExternalVision:
    """The release's weights in ``transformers``' model, its position embedding resized as the release does."""
    state = dict(flat_names(nested))
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=side,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    model = ViTModel(config, add_pooling_layer=False)
    grid = (side // patch, side // patch)
    ours = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": resize_position_embedding(
            state["pos_embed"][0], grid, "bicubic_offset"
        )[None],
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "layernorm.weight": state["norm.weight"],
        "layernorm.bias": state["norm.bias"],
    }
    renamed = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
        "attn.proj": "attention.o_proj",
    }
    for block in range(depth):
        for kind in ("weight", "bias"):
            for theirs, name in renamed.items():
                ours[f"layers.{block}.{name}.{kind}"] = state[f"blocks.{block}.{theirs}.{kind}"]
            parts = state[f"blocks.{block}.attn.qkv.{kind}"].chunk(3)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                ours[f"layers.{block}.attention.{name}.{kind}"] = part
    model.load_state_dict(ours)
    return ExternalVision(model)


@each_file
def test_what_follows_the_refinement(path: Path) -> None:
    file = load_numbers(path)
    before, size = file["cut"]["masks_at_image"].numpy(), tuple(file["cut"]["image_u8_rgb"].shape[:2])
    at_image = []
    for mask, step in zip(before, steps(file["crf"]), strict=True):
        refined, filled = step["map"].numpy(), step["filled"].numpy()
        assert (settled(refined, refined, least_overlap=0.0) == filled).all()
        overlap = float(step["iou"])
        assert (settled(mask, refined, least_overlap=overlap - 1e-4) == filled).all()
        assert not settled(mask, refined, least_overlap=overlap + 1e-4).any()
        at_image.append(resize_mask(settled(mask, refined, least_overlap=0.5), size))
    ours = np.stack([*at_image, ~np.any(at_image, axis=0)])
    assert (ours == (file["crf"]["final_masks_u8"].numpy() > 0)).all()


def load_tower(path: Path, width: int) -> VisionTower:
    """The CLIP whose name the file bears; its words have ``width`` entries."""
    folders = [path.parent.parent / "training-free", *golden_folders("training-free")]
    tag = path.stem.split("__")[1]
    names = [f"clip_{tag}.pt", f"clip_{tag}_visual.pt", "clip_tiny12_visual.pt", "clip_tiny6.pt"]
    for name in names:
        for folder in folders:
            if (folder / name).is_file():
                state = torch.load(folder / name, weights_only=True)
                config = vision_config_from_openai(state, activation="quick_gelu")
                tower = VisionTower(vision_model_from_openai(state, config)).eval()
                if tower.embed_dim == width:
                    return tower
    pytest.skip(f"no weights for {path.name} in {folders[0]}")


@each_file
@torch.no_grad()
def test_late_matching_in_windows(path: Path) -> None:
    ground = load_numbers(path)["ground"]
    image, text, queries = ground["image"], ground["text"].float(), ground["query_idx"]
    working, source = tuple(image.shape[-2:]), tuple(ground["ori_shape"].tolist())
    windows = window_grid(working, *ground["crop_stride"].tolist())
    tower = load_tower(path, text.shape[1])
    masks = build_dense("lavg", tower).region_map(ground["masks"][:-1] > 0)  # the file's last is the rest
    parts, regions = (
        torch.stack([each[..., top:bottom, left:right] for top, left, bottom, right in windows.boxes])
        for each in (image[0], ids_at(masks, working))
    )
    assert (regions.roll(-1, dims=1) == ground["window_masks"]).all()
    first = int((queries == 1).nonzero()[0])
    for name, words in (("plain", 0), ("voc21", first)):
        expected = ground[name]
        encoder = build_dense("lavg", tower, background_words=words)
        logits = encoder.decode(encoder.encode(parts, regions=regions), text).logits
        assert_close(logits, expected["windows"], f"{name}/windows", HALF)
        one = encoder.decode(encoder.encode(parts[:1], regions=regions[:1]), text).logits
        assert_close(one, logits[:1], "batch of one")
        layout = ImageLayout.single(
            WindowLayout(source, working, windows, encoder.patch_size, "bottom_right")
        )
        whole = layout.merge((logits,), "linear", 1.0)
        merged = whole.tile(slice(0, source[0]), slice(0, source[1]), slice(0, len(text))).transpose(0, 1)
        assert_close(merged, expected["logits_at_ori"], f"{name}/logits_at_ori")
        for setting in (each for each in expected if each.startswith("ls")):
            scale, probability, area = re.fullmatch(r"ls([\d.]+)_p([\d.]+)_a(.+)", setting).groups()
            protocol = InferenceProtocol(
                activation="linear",
                background="class",
                logit_scale=float(scale),
                probability_threshold=float(probability),
                area_threshold=0.0 if area == "None" else float(area),
            )
            passes = [(slice(0, len(text)), (logits,))]
            labels, scores, _ = decide(passes, layout, protocol, class_ids=queries)
            what = f"{name}/{setting}"
            different = torch.from_numpy(labels.astype(np.int64)) != expected[setting]["pred"][0]
            assert different.double().mean() <= 1e-3, what
            if "probs" not in expected[setting]:
                continue
            probs = (float(scale) * merged).softmax(dim=0)
            classes = [probs[queries == index].max(dim=0).values for index in range(int(queries.max()) + 1)]
            if area == "None":
                assert_close(torch.stack(classes), expected[setting]["probs"], what, HALF)
            assert_close(torch.from_numpy(scores), expected[setting]["probs"].max(dim=0).values, what, HALF)


@each_file
@torch.no_grad()
def test_late_matching_of_a_whole_picture(path: Path) -> None:
    ground = load_numbers(path)["ground"]
    image, text = ground["image"], ground["text"].float()
    tower = load_tower(path, text.shape[1])
    patch = tower.patch_size
    height, width = (side // patch * patch for side in image.shape[-2:])
    state = build_dense("lavg", tower).encode(image[..., :height, :width])
    assert isinstance(state, DenseState)
    tokens = F.normalize(ground["clip_tokens_whole_image"][:, 1:], dim=-1)
    assert_close(state.features.flatten(2).transpose(1, 2), tokens, "tokens")
    masks = F.interpolate((ground["masks"] > 0)[None].byte(), size=image.shape[-2:], mode="nearest").bool()
    assert (masks[0] == ground["whole"]["masks_at_input"]).all()
    means = pool_by_masks(state.features, masks[0], torch.zeros(masks.shape[1], dtype=torch.long))
    ours = match_late(cosines(state.features, text), (means @ text.T)[None], first_region(masks))
    assert_close(ours[0], ground["whole"]["logits"], "whole")
