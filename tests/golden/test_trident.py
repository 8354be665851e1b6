"""Trident equals its published implementation on the same random weights, SAM's and DINO's maps given.

Runs on every folder that LEXISEG_GOLDEN names. ``Trident__TAG.npz`` belongs to ``clip_TAG.pt`` or ``clip_TAG_visual.pt``
beside it in ``training-free``; words, sizes and settings are read from the file.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_cases import assert_close, difference
from torch import Tensor
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from lexiseg.clip.formats.openai import vision_config_from_openai, vision_model_from_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import build_dense
from lexiseg.dense.multi_view import View, render_view
from lexiseg.inference.decision import LastTouches, decide
from lexiseg.inference.encoding import EncodedImage, EncodedWindows, WindowEncoder
from lexiseg.inference.layout import ImageLayout, lay_out
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.masks.segment_anything_attention import LastAttention, attention_of
from lexiseg.masks.segment_anything_model import EncodedImage as EncodedBySam
from lexiseg.masks.segment_anything_model import PromptableModel
from lexiseg.ops.guided_aggregation import guided_weights, spread
from lexiseg.ops.prompted_refinement import RefinementSettings, redraw, settle
from lexiseg.ops.resize import fit_within, patch_grid_size
from lexiseg.ops.sliding_window import window_grid
from support import golden_folders
from tiny_sams import tiny_sam

HALF = 2e-3
"""For what the file keeps in half precision."""

FILES = [
    path for folder in golden_folders("more-training-free") for path in sorted(folder.glob("Trident__*.npz"))
]
IDS = {"ids": lambda path: f"{path.parent.parent.name}-{path.stem}"}

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FILES, reason="LEXISEG_GOLDEN names no more-training-free folder"),
    pytest.mark.parametrize("path", FILES, **IDS),
]


@cache
def read(path: Path) -> dict[str, Tensor]:
    with np.load(path) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def agree(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert_close(ours.float(), theirs.float(), what, HALF if theirs.dtype == torch.float16 else 1e-4)


@cache
def load_tower(path: Path) -> VisionTower:
    folder, tag = path.parent.with_name("training-free"), path.stem.split("__")[1]
    names = [f"clip_{tag}.pt", f"clip_{tag}_visual.pt"]
    weights = next((folder / name for name in names if (folder / name).is_file()), None)
    if weights is None:
        pytest.skip(f"no weights {names[0]} in {folder}")
    state = torch.load(weights, weights_only=True)
    return VisionTower(
        vision_model_from_openai(state, vision_config_from_openai(state, activation="quick_gelu"))
    ).eval()


def attention(file: dict[str, Tensor], prefix: str, number: str = "") -> LastAttention:
    values = file[f"{prefix}/v{number}"][0]
    return LastAttention(
        iter(file[f"{prefix}/attn{number}"][0]), values.flatten(1, 2), (values.shape[1], values.shape[2])
    )


def settings(key: str) -> dict[str, float | bool]:
    if key == "cityscapes":  # the release's own for that data set
        return {"likeness": 3.0, "keep_negative": False, "halves": True}
    match = re.fullmatch(r"cos(-?[\d.]+)_neg(True|False)", key)
    assert match
    return {"likeness": float(match[1]), "keep_negative": match[2] == "True"}


def cases(file: dict[str, Tensor]) -> list[str]:
    return sorted({key.split("/")[1] for key in file if key.startswith("seg/")})


def given_model(path: Path, **chosen):
    """Trident whose second and third model answer what the file holds."""
    file = read(path)
    windows = iter(file["vfm"].split(len(file["vfm"])))
    if chosen.get("halves"):
        pieces = iter([attention(file, "sam_halves", "1"), attention(file, "sam_halves", "2")])
    else:
        pieces = iter([attention(file, "sam")])
    return build_dense(
        "trident",
        load_tower(path),
        proxy=lambda images: next(windows),
        sam=lambda piece: next(pieces),
        **chosen,
    )


def encoded(path: Path, **chosen) -> tuple[WindowEncoder, EncodedImage]:
    """The photograph's windows, by the file's settings."""
    file = read(path)
    crop, stride = file["crop_stride"].tolist()
    model = given_model(path, **chosen)
    protocol = InferenceProtocol(
        activation="linear",
        short_side=min(file["input"].shape[-2:]),
        window=crop,
        stride=stride,
        window_batch=99,
    )
    photo = file["photo_u8_rgb"].numpy()
    layout = lay_out(photo.shape[:2], protocol, model.patch_size, whole_picture=True)
    encoder = WindowEncoder(model, window_batch=99, precision="float32")
    state = model.encode(cut(file["preprocessed"], layout))
    places = ((0, 0),) * len(layout.windows[0].windows)
    return encoder, EncodedImage(photo, layout, (EncodedWindows(state, places),))


def cut(picture: Tensor, layout: ImageLayout) -> Tensor:
    """The windows of the file's own input: what brought the photograph to its size was a stub."""
    assert picture.shape[-2:] == layout.windows[0].working
    boxes = layout.windows[0].windows.boxes
    return torch.cat([picture[..., top:bottom, left:right] for top, left, bottom, right in boxes])


@torch.no_grad()
def test_sizes_and_windows(path: Path) -> None:
    file, patch = read(path), load_tower(path).patch_size
    crop, stride = file["crop_stride"].tolist()
    own = tuple(file["input"].shape[-2:])
    for key, expected in file.items():
        if match := re.fullmatch(r"preprocess/(\d+)x(\d+)", key):
            size = (int(match[1]), int(match[2]))
            assert list(patch_grid_size(size, patch, crop if size == own else 336)) == expected.tolist(), key
    size = patch_grid_size(own, patch, crop)
    agree(render_view(file["input"], View(1.0, size)), file["preprocessed"], "preprocessed")
    boxes = window_grid(size, crop, stride).boxes
    assert [[edge // patch for edge in box] for box in boxes] == file["coords"].tolist()
    _, picture = encoded(path)
    windows = cut(file["preprocessed"], picture.layout)
    agree(torch.stack([windows[0], windows[-1]]), file["windows_first_and_last"], "windows")


@torch.no_grad()
def test_windows_are_spliced(path: Path) -> None:
    file, tower = read(path), load_tower(path)
    encoder, picture = encoded(path)
    windows = cut(file["preprocessed"], picture.layout)
    normed = tower.norm1(tower.depth - 1, encoder.model.run_to_last(windows)[:, 1:])
    agree(normed, file["last_block_ln1_LND"].transpose(0, 1), "last_block_ln1")
    maps = torch.cat(list(encoder.model.spliced_windows([batch.state for batch in picture.batches])))
    agree(maps.flatten(2).transpose(1, 2), file["window_features_LND"].transpose(0, 1), "window_features")


@torch.no_grad()
def test_sam_spreads_them(path: Path) -> None:
    file = read(path)
    compared = 0
    for case in cases(file):
        chosen = settings(case)
        how = {"factor": chosen["likeness"], "keep_negative": chosen["keep_negative"]}
        pieces = (
            [attention(file, "sam_halves", n) for n in "12"]
            if case == "cityscapes"
            else [attention(file, "sam")]
        )
        weights = [guided_weights(piece.heads, piece.values, **how) for piece in pieces]
        for number, of_piece in enumerate(weights):
            agree(of_piece[None], file[f"seg/{case}/sam_weights{number}"], f"{case}/sam_weights{number}")
        encoder, picture = encoded(path, **chosen)
        if f"seg/{case}/aggregated_LND" in file:
            maps = torch.cat(list(encoder.model.spliced_windows([batch.state for batch in picture.batches])))
            together = spread(picture.layout.windows[0].merge_features(maps), weights, pieces[0].grid)
            expected = file[f"seg/{case}/aggregated_LND"][:, 0]
            agree(together.flatten(1).T, expected, f"{case}/aggregated")
        state = encoder.gather(picture).batches[0].state
        agree(state.features.flatten(2).transpose(1, 2), file[f"seg/{case}/tokens"], f"{case}/tokens")
        logits = encoder.decode(state, file["text"])
        size = file["ori_shape"].tolist()
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0]
        agree(logits, file[f"seg/{case}/logits_at_ori"], f"{case}/logits_at_ori")
        compared += 1
    assert compared


@torch.no_grad()
def test_labels_and_probabilities(path: Path) -> None:
    file = read(path)
    encoder, picture = encoded(path, **settings("cos1.2_negTrue"))
    whole = encoder.gather(picture)
    logits = encoder.decode(whole.batches[0].state, file["text"])
    for key in sorted({key.rsplit("/", 1)[0] for key in file if key.startswith("post/")}):
        match = re.fullmatch(r"post/ls([\d.]+)_p([\d.]+)_bg(\d+)", key)
        assert match
        extra = int(match[3]) - 1
        class_ids = (torch.arange(len(file["text"])) - extra).clamp(min=0)
        protocol = InferenceProtocol(
            activation="linear",
            logit_scale=float(match[1]),
            background="class",
            probability_threshold=float(match[2]),
        )
        expected = file[f"{key}/probs"]

        def compare(labels, maps, classes, expected=expected, key=key):
            agree(torch.stack([maps(index) for index in range(classes)]), expected, f"{key}/probs")
            return labels, torch.zeros(labels.shape)

        decided = decide(
            [(slice(0, len(class_ids)), (logits,))],
            whole.layout,
            protocol,
            class_ids=class_ids,
            touches=LastTouches(redraw=compare),
        )
        different = (
            (torch.from_numpy(decided.labels.astype(np.int64)) != file[f"{key}/pred"][0]).float().mean()
        )
        assert different <= 1e-3, f"{key}: {different:.2%} of the pixels differ"


@torch.no_grad()
def test_refinement(path: Path) -> None:
    file = read(path)
    names = sorted({key.split("/")[0] for key in file if key.startswith("refine_")})
    assert names
    for name in names:
        threshold, area, quality, factor = file[f"{name}/settings_coarse_area_iou_coff"].tolist()
        how = RefinementSettings(threshold, int(area), quality, factor, restore_failed=False)
        labels, probabilities = file[f"{name}/pred_in"][0].int(), file[f"{name}/probs_in"].float()
        size = (labels.shape[0], labels.shape[1])
        model, calls = PromptableModel(tiny_sam()), []
        model._side = 1024
        frame = EncodedBySam({}, size, fit_within(size, 1024, 1024))

        def answer(prompts, name=name, calls=calls, model=model, frame=frame):
            call = f"{name}/call{len(calls)}"
            agree(prompts.points[:, None], file[f"{call}/points"], f"{call}/points")
            agree(prompts.boxes, file[f"{call}/boxes"], f"{call}/boxes")
            agree(prompts.mask, file[f"{call}/mask_prompt"], f"{call}/mask_prompt")
            calls.append(call)
            return model.enlarge(file[f"{call}/low_res_logits"].float()[:, 0], frame), file[f"{call}/scores"][
                :, 0
            ]

        def maps(index, probabilities=probabilities):
            return probabilities[index]

        classes = len(probabilities)
        redrawn = redraw(labels, maps, classes, answer, side=1024, mask_side=256, settings=how)
        assert f"{name}/call{len(calls)}/points" not in file
        if redrawn is None:  # no answer counts: all stays
            assert torch.equal(labels, file[f"{name}/pred_out"][0].int())
            agree(probabilities, file[f"{name}/probs_out"], f"{name}/probs_out")
            continue
        settled, best = settle(redrawn, labels, maps, classes, restore_failed=False)
        different = (settled != file[f"{name}/pred_out"][0]).float().mean()
        assert different <= 1e-3, f"{name}: {different:.2%} of the pixels differ"
        scores = torch.stack([redrawn.score(index, maps(index)) for index in range(classes)])
        wrong = (scores - file[f"{name}/probs_out"].float()).abs() > HALF * scores.max()
        # A mask's border is where its logit is 0, which rounding to half precision moves.
        assert wrong.float().mean() <= 1e-3, (
            f"{name}/probs_out: {difference(scores, file[f'{name}/probs_out']):.2e}"
        )
        assert torch.equal(best, scores.amax(dim=0))


def sam_encoder(file: dict[str, Tensor]) -> SamVisionEncoder:
    """The file's tower in ``transformers``; windows of the first block are read from its relative positions."""
    state = {
        key.removeprefix("sam_encoder/"): value.float()
        for key, value in file.items()
        if key.startswith("sam_encoder/")
    }
    width, grid = state["pos_embed"].shape[-1], state["pos_embed"].shape[1]
    patch, heads = state["patch_embed.proj.weight"].shape[-1], len(file["sam_encoder_case/last_attn"])
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    sides = [(len(state[f"blocks.{index}.attn.rel_pos_h"]) + 1) // 2 for index in range(depth)]
    config = SamVisionConfig(
        hidden_size=width,
        output_channels=state["neck.0.weight"].shape[0],
        num_hidden_layers=depth,
        num_attention_heads=heads,
        image_size=grid * patch,
        patch_size=patch,
        window_size=min(sides),
        global_attn_indexes=[index for index, side in enumerate(sides) if side == grid],
        mlp_dim=state["blocks.0.mlp.lin1.weight"].shape[0],
    )
    named = {}
    for key, value in state.items():
        key = key.replace("patch_embed.proj", "patch_embed.projection").replace("blocks.", "layers.")
        key = key.replace(".norm1.", ".layer_norm1.").replace(".norm2.", ".layer_norm2.")
        for old, new in (
            ("neck.0", "neck.conv1"),
            ("neck.1", "neck.layer_norm1"),
            ("neck.2", "neck.conv2"),
            ("neck.3", "neck.layer_norm2"),
        ):
            key = key.replace(old, new)
        named[key] = value
    encoder = SamVisionEncoder(config)
    encoder.load_state_dict(named)
    return encoder.eval()


@torch.no_grad()
def test_attention_of_sams_last_block(path: Path) -> None:
    file = read(path)
    encoder = sam_encoder(file)
    module, seen = encoder.layers[-1].attn, []
    module.register_forward_pre_hook(
        lambda _, given, named: seen.append((*given, *named.values())[0]), with_kwargs=True
    )
    out = encoder(file["sam_encoder_case/input"]).last_hidden_state
    agree(out, file["sam_encoder_case/embedding"], "embedding")
    grid = (seen[0].shape[1], seen[0].shape[2])
    last = attention_of(module, seen[0], grid)
    agree(torch.stack(list(last.heads)), file["sam_encoder_case/last_attn"], "last_attn")
    values = file["sam_encoder_case/last_v"][0].flatten(1, 2)
    agree(last.values, values, "last_v")
    # A part of the grid is the same attention, cut.
    rows, columns = grid[0] - 1, grid[1] - 3
    part = attention_of(module, seen[0], (rows, columns))
    whole = file["sam_encoder_case/last_attn"].view(-1, *grid, *grid)[:, :rows, :columns, :rows, :columns]
    agree(torch.stack(list(part.heads)), whole.flatten(3, 4).flatten(1, 2), "part of last_attn")
    agree(part.values, values.unflatten(1, grid)[:, :rows, :columns].flatten(1, 2), "part of last_v")
