"""What the golden tests of ZegCLIP and SPT-SEG share; all sizes are read from the folder's files.

Head counts are not stored there, so the one that reproduces the first block (or decoder map) is found first.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.checkpoints.published_layout import PROMPTS, published_layout
from lexiseg.checkpoints.published_settings import detect_settings
from lexiseg.clip.formats.openai import vision_config_from_openai, vision_model_from_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.inference.layout import WindowLayout
from lexiseg.models.registry import build_model
from lexiseg.ops.class_chunks import SigmoidMerge, merged_maps
from lexiseg.ops.sliding_window import window_grid
from lexiseg.training.optim import OptimSettings, build_optimizer

_CLIP_PARTS = ("class_emb", "positional", "proj", "conv1.", "ln_pre.", "ln_post.", "transformer.")
"""Beginnings of the frozen image tower's names in ``backbone.*``."""

TOLERANCE = 1e-4
NOISE = ".multihead_attn.k.bias"
"""In all decoder layers but the last this gradient is zero in theory: rounding noise, not to be compared."""

QUIET = {"prompt_dropout": 0.0, "decoder_dropout": 0.0}


def load(folder: Path, name: str):
    return torch.load(folder / name, weights_only=True)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative to the tensor's own scale."""
    return ((ours.double() - theirs.double()).abs().max() / theirs.abs().max().clamp(min=1e-12)).item()


def assert_close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert ours.shape == theirs.shape, f"{what}: {tuple(ours.shape)} != {tuple(theirs.shape)}"
    worst = difference(ours, theirs)
    assert worst <= TOLERANCE, f"{what}: largest relative difference {worst:.2e}"


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


def check_tower(folder: Path) -> None:
    model, inputs, _ = case(folder)
    expected = load(folder, "eval_inductive.pt")
    tower, image = model.tower, inputs["img"]
    grid = tower.grid(image)
    with torch.no_grad():
        assert_close(tower.vision.embeddings.patch_embedding(image), expected["conv1"], "patch embedding")
        tokens = tower.embed(image, position_mode="bilinear", class_embedding_twice=True)
        assert_close(tokens, expected["ln_pre"], "tokens after ln_pre")
        for index in range(tower.depth):
            entering = model.enter(tokens, index, grid)
            if index == 0:
                assert_close(entering, expected["tokens_in_LND"].transpose(0, 1), "tokens into block 1")
            tokens = tower.block(index, entering)
            theirs = expected["block_out_LND"][index]
            if theirs is not None:
                assert_close(tokens, theirs.transpose(0, 1), f"block {index + 1}")


def check_features(folder: Path, *, square_only: bool) -> None:
    model, inputs, _ = case(folder)
    expected = load(folder, "eval_inductive.pt")
    compared = 0
    for name, numbers in ({"img": expected} | expected["sizes"]).items():
        height, width = inputs[name].shape[-2:]
        if numbers["features"] is None or (square_only and height != width):
            continue
        with torch.no_grad():
            state = model.encode(inputs[name])
        assert_close(state.cls, numbers["cls"], f"{name}: class token")
        assert_close(state.stages[0], numbers["features"][0], f"{name}: features")
        compared += 1
    assert compared


def check_masks_and_scores(folder: Path, setting: str) -> None:
    model, inputs, _ = case(folder)
    expected = load(folder, f"eval_{setting}.pt")
    with torch.no_grad():
        out = model(inputs["img"], inputs["text"].float())
    assert_close(out.logits, expected["stage_mask_sum"], "masks")
    upsampled = F.interpolate(out.logits, size=inputs["img"].shape[-2:], mode="bilinear", align_corners=False)
    assert_close(upsampled, expected["pred_masks"], "upsampled")
    for offset in ("0", "0.1"):
        scores = upsampled.sigmoid()
        scores[:, inputs["base_class"]] -= float(offset)
        assert_close(scores, expected[f"pred_offset{offset}"], f"scores less {offset}")


def check_sliding_windows(folder: Path, setting: str, penalty: float) -> None:
    """Windows of the native size every three quarters of it, on a photograph that they do not fit."""
    model, inputs, _ = case(folder)
    expected = load(folder, f"eval_{setting}.pt")
    image, side = inputs["img_slide"], inputs["img"].shape[-1]
    size = tuple(image.shape[-2:])
    grid = window_grid(size, side, side * 3 // 4)
    windows = torch.cat([image[..., top:bottom, left:right] for top, left, bottom, right in grid.boxes])
    with torch.no_grad():
        logits = model(windows, inputs["text"].float()).logits
    words = torch.arange(logits.shape[1])
    offset = penalty * torch.isin(words, torch.tensor(inputs["base_class"]))[None, :, None, None]
    axes = WindowLayout(size, size, grid, model.patch_size, "bottom_right").axes(
        tuple(logits.shape[-2:]), logits.device
    )
    maps = merged_maps(SigmoidMerge(logits, *axes), size, len(words))[None]
    assert_close(maps - offset, expected["slide"], "sliding windows")


def check_every_grid(folder: Path) -> None:
    """Where the release raises or reshapes wrongly, ours gives a map of the right shape."""
    model, inputs, _ = case(folder)
    text = inputs["text"].float()
    for name in ("img_rect", "img_odd", "img_2x8"):
        with torch.no_grad():
            logits = model(inputs[name], text).logits
        assert logits.shape == (len(inputs[name]), len(text), *model.tower.grid(inputs[name]))
        assert torch.isfinite(logits).all()


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


def _words(inputs, setting: str) -> Tensor:
    text = inputs["text"].float()
    return text[inputs["base_class"]] if setting == "inductive" else text


def check_training(folder: Path, setting: str, criterion, losses: dict[str, str]) -> None:
    """Losses by our names and the published ones, total, and every gradient that the release has."""
    model, inputs, _ = case(folder)
    expected = load(folder, f"train_{setting}.pt")
    model.zero_grad()
    out = model.train()(inputs["img"], _words(inputs, setting))
    model.eval()
    labels = _labels(folder, setting, inputs, out.logits)
    assert torch.equal(labels, expected["label_in_loss"].squeeze(1)), "labels, or pseudo-labels"
    found = criterion(out.logits, labels)
    found["loss"].backward()
    assert_close(out.logits, expected["stage_mask_sum"], "masks in training")
    for ours, theirs in losses.items():
        assert_close(found[ours], expected["losses"][theirs], ours)
    assert_close(found["loss"], expected["total"], "total")
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    compared = {"prompts.tokens"}
    prompts = [expected["grads"][f"backbone.{kind}prompt_embeddings"] for kind in ("", "deep_")]
    assert_close(gradients["prompts.tokens"], torch.cat(prompts), "gradient of the prompts")
    for theirs, ours in trained_pairs(model).items():
        compared.add(ours)
        if not is_noise(theirs, model):
            assert_close(gradients[ours], expected["grads"][theirs], f"gradient of {theirs}")
    assert compared == gradients.keys()
    assert len(compared) + 1 == len(expected["grads"]), "some published gradient has no counterpart"
    model.zero_grad()


def check_five_steps(folder: Path, setting: str, criterion) -> None:
    model, inputs, _ = case(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = load(folder, f"after_5_steps_{setting}.pt")
    schedule = expected["schedule"]
    settings = OptimSettings(
        lr=schedule["base_lr"] * 10,  # the released paramwise multiplier of everything that trains
        weight_decay=schedule["weight_decay"],
        betas=tuple(schedule["betas"]),
        eps=schedule["eps"],
        power=schedule["power"],
        min_lr=schedule["min_lr"],
        warmup_steps=schedule["warmup_iters"],
        warmup_ratio=schedule["warmup_ratio"],
    )
    optimizer, scheduler = build_optimizer(model, settings, schedule["max_iters"])
    model.train()
    for index, row in enumerate(expected["trajectory"]):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(row["lr"], rel=1e-9)
        logits = model(inputs["img"], _words(inputs, setting)).logits
        loss = criterion(logits, _labels(folder, setting, inputs, logits))["loss"]
        assert loss.item() == pytest.approx(row["loss"], rel=TOLERANCE), f"step {index}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    after = dict(model.named_parameters())
    for theirs, ours in trained_pairs(model).items():
        if not is_noise(theirs, model):
            assert_close(after[ours].detach(), expected["params"][theirs], f"{theirs} after five steps")
    prompts = [expected["params"][f"backbone.{kind}prompt_embeddings"] for kind in ("", "deep_")]
    assert_close(after["prompts.tokens"].detach(), torch.cat(prompts), "prompts after five steps")
    model.load_state_dict(before)


def _labels(folder, setting, inputs, logits) -> Tensor:
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


def check_parameter_groups(folder: Path) -> None:
    model, _, _ = case(folder, unused=True)
    expected = json.loads((folder / "optim_groups.json").read_text())
    groups = model.parameter_groups(OptimSettings())
    trained = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    live = [p for p in case(folder)[0].parameters() if p.requires_grad]
    assert sum(p.numel() for g in groups for p in g["params"]) == expected["trainable_elements"]
    assert sum(p.numel() for p in live) == expected["trainable_with_gradient_elements"]
    parameters = dict(model.named_parameters())
    names = renamed(model)
    for row in expected["per_param"]:
        if row["name"] in names:
            rule = trained.get(id(parameters[names[row["name"]]]))
            assert rule == ((row["lr"], row["weight_decay"]) if row["requires_grad"] else None), row["name"]
