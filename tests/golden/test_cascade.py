"""Cascade-CLIP equals the published implementation on its own random weights.

Runs on every folder that LEXISEG_GOLDEN names (see conftest); all sizes are read from the files. Head counts are not
stored there, so the one that reproduces the first block (or decoder map) is found first; everything after is compared.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from published_cases import clip_visual_state, renamed
from torch import Tensor

from lexiseg.checkpoints.published_layout import published_layout
from lexiseg.clip.formats.openai import vision_config_from_openai, vision_model_from_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.functional import dice_loss, sigmoid_focal_loss
from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
from lexiseg.ops.grid import resize_position_embedding
from lexiseg.training.optim import OptimSettings, build_optimizer, polynomial_with_warmup
from support import golden_folders

TOLERANCE = 1e-4
FOLDERS = golden_folders("cascade")
NOISE = ".multihead_attn.k.bias"
"""In all decoder layers but the last this gradient is zero in theory: rounding noise, not to be compared."""

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no cascade folder"),
]


def load(folder: Path, name: str):
    return torch.load(folder / name, weights_only=True)


def assert_close(ours: Tensor, theirs: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Relative to the tensor's own scale."""
    assert ours.shape == theirs.shape, f"{what}: {tuple(ours.shape)} != {tuple(theirs.shape)}"
    scale = theirs.abs().max().clamp(min=1e-12)
    worst = ((ours.double() - theirs.double()).abs().max() / scale).item()
    assert worst <= tolerance, f"{what}: largest relative difference {worst:.2e}"


@cache
def case(folder: Path, *, unused: bool = False):
    """Model with the folder's weights, its inputs and the published state dict."""
    published = load(folder, "ckpt_inductive.pth")["state_dict"]
    inputs, expected = load(folder, "inputs.pt"), load(folder, "eval_inductive.pt")
    tower = VisionTower(_tower_model(published, expected))
    decoder_layers = len(expected["decoder_attn_BCN"][0])
    prompts = published["backbone.prompt_embeddings"].shape[1]
    stages = _stages(published, tower.depth)
    for heads in _divisors(tower.embed_dim):
        settings = CascadeSettings(
            stages=stages,
            prompt_length=prompts,
            decoder_layers=decoder_layers,
            decoder_heads=heads,
            prompt_dropout=0.0,
            decoder_dropout=0.0,
            unused_parameters=unused,
        )
        model = CascadeCLIP(tower, settings)
        model.load_state_dict(published_layout(settings, model.tower).from_published(published))
        model.eval()
        with torch.no_grad():
            masks = (
                model.stages[0]
                .decoder.layers[0]
                .attention.similarity(expected["q"][0], expected["decoder_memory_NBC"][0].transpose(0, 1))
            )
        if _difference(masks, expected["decoder_attn_BCN"][0][0]) < TOLERANCE:
            return model, inputs, published
    raise AssertionError("no head count reproduces the first decoder map")


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _tower_model(published, expected):
    visual = clip_visual_state(published)
    width = visual["visual.conv1.weight"].shape[0]
    for heads in _divisors(width):
        config = vision_config_from_openai(visual, activation="quick_gelu", heads=heads)
        model = vision_model_from_openai(visual, config)
        block = VisionTower(model).block(0, expected["tokens_in_LND"].transpose(0, 1))
        if _difference(block, expected["block_out_LND"][0].transpose(0, 1)) < TOLERANCE:
            return model
    raise AssertionError("no head count reproduces the first block")


def _stages(published, depth: int) -> tuple[tuple[int, ...], ...]:
    """The release taps the blocks right below the last, three a stage, as its weights say."""
    sizes = [
        len(tensor) for name, tensor in sorted(published.items()) if name.startswith("decode_head.weights_s")
    ]
    first = depth - sum(sizes)
    stages, block = [], first
    for size in sizes:
        stages.append(tuple(range(block, block + size)))
        block += size
    return (*stages, (depth,))


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_tower(folder):
    model, inputs, _ = case(folder)
    expected = load(folder, "eval_inductive.pt")
    tower, image = model.tower, inputs["img"]
    with torch.no_grad():
        patches = tower.vision.embeddings.patch_embedding(image)
        assert_close(patches, expected["conv1"], "patch embedding")
        tokens = tower.embed(image, position_mode="bilinear", class_embedding_twice=True)
        assert_close(tokens, expected["ln_pre"], "tokens after ln_pre")
        for index in range(tower.depth):
            entering = model.prompts.insert(tokens, index)
            if index == 0:
                assert_close(entering, expected["tokens_in_LND"].transpose(0, 1), "tokens into block 1")
            tokens = tower.block(index, entering)
            assert_close(tokens, expected["block_out_LND"][index].transpose(0, 1), f"block {index + 1}")


def _block_features(model, image) -> list[Tensor]:
    """Every tapped block's unit features, shallow to deep, then the last block's, by stages of one block each."""
    captured = []
    hooks = [
        stage.aggregation.register_forward_pre_hook(lambda _, args: captured.extend(args[0]))
        for stage in model.stages
    ]
    try:
        state = model.encode(image)
    finally:
        for hook in hooks:
            hook.remove()
    return captured, state.cls


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_features_at_every_size(folder):
    model, inputs, _ = case(folder)
    expected = load(folder, "eval_inductive.pt")
    cases = {"img": expected} | {name: expected["sizes"][name] for name in expected["sizes"]}
    for name, numbers in cases.items():
        with torch.no_grad():
            features, cls = _block_features(model, inputs[name])
        assert_close(cls, numbers["cls"], f"{name}: class token")
        assert len(features) == len(numbers["features"])
        for index, (ours, theirs) in enumerate(zip(features, numbers["features"], strict=True)):
            assert_close(ours, theirs, f"{name}: features {index}")


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
@pytest.mark.parametrize("setting", ["inductive", "transductive"])
def test_masks_and_scores(folder, setting):
    model, inputs, _ = case(folder)
    expected = load(folder, f"eval_{setting}.pt")
    with torch.no_grad():
        state = model.encode(inputs["img"])
        out = model.decode(state, inputs["text"].float())
    assert_close(state.cls, expected["cls"], "class token")
    for index, (ours, theirs) in enumerate(zip(out.stage_logits, expected["stage_mask_BChw"], strict=True)):
        assert_close(ours, theirs, f"stage {index + 1}")
    assert_close(out.logits, expected["stage_mask_sum"], "sum of the stages")
    upsampled = F.interpolate(out.logits, size=inputs["img"].shape[-2:], mode="bilinear", align_corners=False)
    assert_close(upsampled, expected["pred_masks"], "upsampled")
    for offset in ("0", "0.1"):
        scores = upsampled.sigmoid()
        scores[:, inputs["base_class"]] -= float(offset)
        assert_close(scores, expected[f"pred_offset{offset}"], f"scores less {offset}")


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_decoder_layers(folder):
    model, _, _ = case(folder)
    expected = load(folder, "eval_inductive.pt")
    for index, stage in enumerate(model.stages):
        with torch.no_grad():
            queries = stage.query_projection(expected["q_in"][index])
            assert_close(queries, expected["q"][index], f"queries of stage {index + 1}")
            memory = expected["decoder_memory_NBC"][index].transpose(0, 1)
            for depth, layer in enumerate(stage.decoder.layers):
                attention = layer.attention.similarity(queries, memory)
                assert_close(attention, expected["decoder_attn_BCN"][index][depth], f"map {index}.{depth}")
                queries = layer(queries, memory)
                theirs = expected["decoder_layer_out_CBD"][index][depth].transpose(0, 1)
                assert_close(queries, theirs, f"decoder layer {index}.{depth}")


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_rectangles_that_the_release_refuses(folder):
    """Where the release raises or reshapes wrongly, each half of a rectangle's decoder sees every patch once."""
    model, inputs, _ = case(folder)
    text = inputs["text"].float()
    for name in ("img_rect", "img_odd", "img_2x8"):
        image = inputs[name]
        grid = model.tower.grid(image)
        with torch.no_grad():
            logits = model(image, text).logits
        assert logits.shape == (len(image), len(text), *grid)
        assert torch.isfinite(logits).all()


def _remapped(folder, setting, inputs) -> Tensor:
    train = load(folder, f"train_{setting}.pt")
    return train["label_in_loss"].squeeze(1)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
@pytest.mark.parametrize("setting", ["inductive", "transductive"])
def test_training_losses_and_gradients(folder, setting):
    model, inputs, published = case(folder)
    expected = load(folder, f"train_{setting}.pt")
    text = inputs["text"].float()
    if setting == "inductive":
        text = text[inputs["base_class"]]
    model.zero_grad()
    out = model.train()(inputs["img"], text)
    model.eval()
    losses = MaskCriterion()(out.logits, _remapped(folder, setting, inputs))
    losses["loss"].backward()
    assert_close(out.logits, expected["stage_mask_sum"], "masks in training")
    assert_close(losses["loss_focal"], expected["losses"]["decode.loss_mask"], "focal")
    assert_close(losses["loss_dice"], expected["losses"]["decode.loss_dice"], "dice")
    assert_close(losses["loss"], expected["total"], "total")
    gradients = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    compared = 0
    for theirs, ours in _trained_pairs(published, model).items():
        if theirs in expected["grads"] and not _is_noise(theirs, model):
            assert_close(gradients[ours], expected["grads"][theirs], f"gradient of {theirs}")
            compared += 1
    prompts = [expected["grads"][f"backbone.{kind}prompt_embeddings"] for kind in ("", "deep_")]
    assert_close(gradients["prompts.tokens"], torch.cat(prompts), "gradient of the prompts")
    skipped = sum(_is_noise(name, model) for name in expected["grads"])
    assert compared + 2 + skipped == len(expected["grads"]), "some published gradient has no counterpart"


def _trained_pairs(published, model) -> dict[str, str]:
    return {theirs: ours for theirs, ours in renamed(model).items() if "ln_layers" not in theirs}


def _is_noise(name: str, model) -> bool:
    return name.endswith(NOISE) and f"layers.{model.settings.decoder_layers - 1}." not in name


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_label_remapping(folder):
    """Seen labels become query indices; everything else becomes 255."""
    inputs, expected = load(folder, "inputs.pt"), load(folder, "train_inductive.pt")
    from lexiseg.data.splits import seen_label_map
    from lexiseg.types import ClassSplit

    names = tuple(f"class {i}" for i in inputs["both_class"])
    split = ClassSplit("golden", names, tuple(names[i] for i in inputs["novel_class"]))
    hidden = torch.from_numpy(seen_label_map(split)).long()[inputs["label"]]
    query = torch.full((256,), 255)
    query[list(split.training_ids)] = torch.arange(len(split.training_ids))
    assert torch.equal(query[hidden], expected["label_in_loss"])


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
@pytest.mark.parametrize("setting", ["inductive", "transductive"])
def test_five_optimiser_steps(folder, setting):
    model, inputs, published = case(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = load(folder, f"after_5_steps_{setting}.pt")
    schedule = expected["schedule"]
    factor = 10  # the released paramwise multiplier of everything that trains
    settings = OptimSettings(
        lr=schedule["base_lr"] * factor,
        weight_decay=schedule["weight_decay"],
        betas=tuple(schedule["betas"]),
        eps=schedule["eps"],
        power=schedule["power"],
        min_lr=schedule["min_lr"],
        warmup_steps=schedule["warmup_iters"],
        warmup_ratio=schedule["warmup_ratio"],
    )
    optimizer, scheduler = build_optimizer(model, settings, schedule["max_iters"])
    text = inputs["text"].float()
    text = text[inputs["base_class"]] if setting == "inductive" else text
    model.train()
    for index, row in enumerate(expected["trajectory"]):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(row["lr"], rel=1e-9)
        logits = model(inputs["img"], text).logits
        labels = _labels_for(folder, setting, inputs, logits)
        loss = MaskCriterion()(logits, labels)["loss"]
        assert loss.item() == pytest.approx(row["loss"], rel=TOLERANCE), f"step {index}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    after = dict(model.named_parameters())
    for theirs, ours in _trained_pairs(published, model).items():
        if theirs in expected["params"] and not _is_noise(theirs, model):
            assert_close(after[ours].detach(), expected["params"][theirs], f"{theirs} after five steps")
    model.load_state_dict(before)


def _labels_for(folder, setting, inputs, logits) -> Tensor:
    """Inductive labels are fixed; transductive ones take pseudo-labels from the current masks."""
    if setting == "inductive":
        return _remapped(folder, setting, inputs)
    labels = inputs["label"].squeeze(1)
    scores = F.interpolate(
        logits.detach(), size=labels.shape[-2:], mode="bilinear", align_corners=False
    ).sigmoid()
    scores[:, inputs["base_class"]] = -1
    pseudo = scores.argmax(1)
    unlabelled = torch.isin(labels, torch.tensor(inputs["novel_class"]))
    return labels.where(~unlabelled, pseudo)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_parameter_groups(folder):
    model, _, _ = case(folder, unused=True)
    expected = json.loads((folder / "optim_groups.json").read_text())
    settings = OptimSettings()
    groups = model.parameter_groups(settings)
    trained = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(p.numel() for g in groups for p in g["params"]) == expected["trainable_elements"]
    live = case(folder)[0]
    assert (
        sum(p.numel() for p in live.parameters() if p.requires_grad)
        == expected["trainable_with_gradient_elements"]
    )
    parameters = dict(model.named_parameters())
    names = renamed(model)
    for row in expected["per_param"]:
        if row["name"] in names:
            rule = trained.get(id(parameters[names[row["name"]]]))
            assert rule == ((row["lr"], row["weight_decay"]) if row["requires_grad"] else None), row["name"]


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_schedule(folder):
    expected = json.loads((folder / "lr_schedule.json").read_text())
    for title, table in expected["table"].items():
        if "lr=0 group" in title:
            continue
        max_steps = int(title.split("max_iters=")[1].split()[0])
        lr = 2e-4 if "backbone/head" in title else expected["base_lr"]
        settings = OptimSettings(
            lr=lr,
            power=expected["power"],
            min_lr=expected["min_lr"],
            warmup_steps=expected["warmup_iters"],
            warmup_ratio=expected["warmup_ratio"],
        )
        for step, value in table.items():
            assert polynomial_with_warmup(int(step), max_steps, settings) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_loss_alone(folder):
    for name, numbers in load(folder, "losses.pt").items():
        if not name.startswith("cascade_"):
            continue
        if name == "cascade_functions":
            logits, targets = numbers["x"], numbers["t"].float()
            assert_close(dice_loss(logits, targets) / len(logits), numbers["dice"], "dice function")
            assert_close(
                sigmoid_focal_loss(logits, targets) / len(logits), numbers["focal"], "focal function"
            )
            continue
        masks = numbers["pred_masks"].clone().requires_grad_()
        losses = MaskCriterion()(masks, numbers["label"])
        assert_close(losses["loss_focal"], numbers["losses"]["loss_mask"], f"{name}: focal")
        assert_close(losses["loss_dice"], numbers["losses"]["loss_dice"], f"{name}: dice")
        if "grad" in numbers:
            losses["loss"].backward()
            assert_close(losses["loss"], numbers["total"], f"{name}: total")
            assert_close(masks.grad, numbers["grad"], f"{name}: gradient")


@pytest.mark.skipif(not golden_folders("clip"), reason="LEXISEG_GOLDEN names no clip folder")
def test_position_embedding():
    for folder in golden_folders("clip"):
        numbers = load(folder, "pos_embed_resize.pt")
        native, expected = numbers["clip_pos_197x768"], numbers["resized_1025x768"]
        side = round((len(expected) - 1) ** 0.5)
        assert_close(
            resize_position_embedding(native, (side, side), "bilinear"), expected, "position embedding"
        )
