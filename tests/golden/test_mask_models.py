"""Cascade-CLIP, ZegCLIP and SPT-SEG equal the published implementations on their own random weights.

Runs on every folder ``cascade``, ``zegclip`` and ``spt`` that LEXISEG_GOLDEN names.
"""

import json
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from published_cases import (
    TOLERANCE,
    assert_close,
    case,
    difference,
    is_noise,
    labels_for,
    load,
    renamed,
    trained_pairs,
    words,
)
from torch import Tensor

from lexiseg.inference.decision import decide
from lexiseg.inference.layout import ImageLayout, WindowLayout
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.ops.class_chunks import SigmoidMerge
from lexiseg.ops.sliding_window import WindowGrid, window_grid
from lexiseg.training.optim import OptimSettings, build_optimizer
from support import golden_folders, merged_maps


@dataclass(frozen=True)
class Kind:
    """How a method is trained, and what its release can do."""

    criterion: MaskCriterion = field(default_factory=MaskCriterion)
    second_loss: str = "dice"
    square_only: bool = False


KINDS = {
    "cascade": Kind(),
    "zegclip": Kind(),
    "spt": Kind(MaskCriterion(MaskLossWeights(dice=0.0, ssim=1.0)), "ssim", square_only=True),
}
CASES = [(kind, folder) for kind in KINDS for folder in golden_folders(kind)]
SETTINGS = ["inductive", "transductive"]

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not CASES, reason="LEXISEG_GOLDEN names no cascade, zegclip or spt folder"),
    pytest.mark.parametrize(("kind", "folder"), CASES, ids=str),
]


def test_tower(kind, folder):
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


def tapped_features(model, image: Tensor) -> tuple[list[Tensor], Tensor]:
    """Unit features of every tapped block, shallow to deep, the last block's after them; and the class token."""
    captured: list[Tensor] = []
    hooks = [
        stage.aggregation.register_forward_pre_hook(lambda _, args: captured.extend(args[0]))
        for stage in model.stages
        if len(model.stages) > 1
    ]
    try:
        state = model.encode(image)
    finally:
        for hook in hooks:
            hook.remove()
    return captured or list(state.stages), state.cls


def test_features_at_every_size(kind, folder):
    model, inputs, _ = case(folder)
    expected = load(folder, "eval_inductive.pt")
    compared = 0
    for name, numbers in ({"img": expected} | expected["sizes"]).items():
        height, width = inputs[name].shape[-2:]
        if numbers["features"] is None or (KINDS[kind].square_only and height != width):
            continue
        with torch.no_grad():
            features, cls = tapped_features(model, inputs[name])
        assert_close(cls, numbers["cls"], f"{name}: class token")
        for index, (ours, theirs) in enumerate(zip(features, numbers["features"], strict=True)):
            assert_close(ours, theirs, f"{name}: features {index}")
        compared += 1
    assert compared


@pytest.mark.parametrize("setting", SETTINGS)
def test_masks_and_scores(kind, folder, setting):
    model, inputs, _ = case(folder)
    expected = load(folder, f"eval_{setting}.pt")
    with torch.no_grad():
        out = model(inputs["img"], inputs["text"].float())
    for index, (ours, theirs) in enumerate(zip(out.stage_logits, expected["stage_mask_BChw"], strict=True)):
        assert_close(ours, theirs, f"stage {index + 1}")
    assert_close(out.logits, expected["stage_mask_sum"], "masks")
    upsampled = F.interpolate(out.logits, size=inputs["img"].shape[-2:], mode="bilinear", align_corners=False)
    assert_close(upsampled, expected["pred_masks"], "upsampled")
    offsets = [key.removeprefix("pred_offset") for key in expected if key.startswith("pred_offset")]
    assert offsets
    for offset in offsets:
        scores = upsampled.sigmoid()
        scores[:, inputs["base_class"]] -= float(offset)
        assert_close(scores, expected[f"pred_offset{offset}"], f"scores less {offset}")


def published_strides(side: int) -> tuple[int, int]:
    """Windows of the tiny cases overlap by a quarter; released configurations move 426 of 512 pixels."""
    return side * 3 // 4, side * 426 // 512


@pytest.mark.parametrize(("setting", "penalty"), [("inductive", 0.1), ("transductive", 0.0)])
def test_sliding_windows(kind, folder, setting, penalty):
    """On a photograph that windows of the training size do not fit; no file says how far apart they lay."""
    model, inputs, _ = case(folder)
    expected = load(folder, f"eval_{setting}.pt")
    image, side = inputs["img_slide"], inputs["img"].shape[-1]
    size, seen = (image.shape[-2], image.shape[-1]), tuple(inputs["base_class"])
    count = len(inputs["text"])
    offset = penalty * torch.isin(torch.arange(count), torch.tensor(seen))[None, :, None, None]

    def run(grid: WindowGrid) -> Tensor:
        windows = [image[..., top:bottom, left:right] for top, left, bottom, right in grid.boxes]
        with torch.no_grad():
            return model(torch.cat(windows), inputs["text"].float()).logits

    def maps(logits: Tensor, layout: WindowLayout) -> Tensor:
        axes = layout.axes((logits.shape[-2], logits.shape[-1]), logits.device)
        return merged_maps(SigmoidMerge(logits, *axes), layout.source, count)[None] - offset

    for stride in published_strides(side):
        grid = window_grid(size, side, stride)
        logits = run(grid)
        working = maps(logits, WindowLayout(size, size, grid, model.patch_size, "bottom_right"))
        if difference(working, expected["slide"]) <= TOLERANCE:
            break
    assert_close(working, expected["slide"], "sliding windows")
    key = next(key for key in expected if key.startswith("slide_rescaled_"))
    source = (expected[key].shape[-2], expected[key].shape[-1])
    layout = WindowLayout(source, size, grid, model.patch_size, "bottom_right")
    assert_close(maps(logits, layout), expected[key], key)
    labels, *_ = decide(
        [(slice(0, count), (logits,))],
        ImageLayout.single(layout),
        InferenceProtocol(window=side, stride=stride, seen_penalty=penalty),
        class_ids=torch.arange(count),
        seen_ids=seen,
        scores=False,
    )
    scores = expected[key][0].topk(2, dim=0).values
    clear = (scores[0] - scores[1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    assert (labels == expected["slide_argmax"][0].numpy())[clear].all()


def test_every_grid(kind, folder):
    """Where the release raises or reshapes wrongly, ours gives a map of the right shape."""
    model, inputs, _ = case(folder)
    text = inputs["text"].float()
    for name in load(folder, "eval_inductive.pt")["sizes"]:
        with torch.no_grad():
            logits = model(inputs[name], text).logits
        assert logits.shape == (len(inputs[name]), len(text), *model.tower.grid(inputs[name]))
        assert torch.isfinite(logits).all()


def test_decoder_layers(kind, folder):
    model, _, _ = case(folder)
    expected = load(folder, "eval_inductive.pt")
    for index, stage in enumerate(model.stages):
        with torch.no_grad():
            queries = stage.query_projection(expected["q_in"][index])
            assert_close(queries, expected["q"][index], f"queries of stage {index + 1}")
            spectral = kind == "spt"
            sequence_first = expected["decoder_memory_NBC"][index]
            memory = expected["features"][index] if spectral else sequence_first.transpose(0, 1)
            for depth, layer in enumerate(stage.decoder.layers):
                if spectral:
                    attention = queries @ layer.split(memory).transpose(1, 2)
                else:
                    attention = layer.attention.similarity(queries, memory)
                assert_close(attention, expected["decoder_attn_BCN"][index][depth], f"map {index}.{depth}")
                queries = layer(queries, memory)
                theirs = expected["decoder_layer_out_CBD"][index][depth].transpose(0, 1)
                assert_close(queries, theirs, f"decoder layer {index}.{depth}")


@pytest.mark.parametrize("setting", SETTINGS)
def test_training_losses_and_gradients(kind, folder, setting):
    """Losses, total, and every gradient that the release has."""
    model, inputs, _ = case(folder)
    expected = load(folder, f"train_{setting}.pt")
    second = KINDS[kind].second_loss
    model.zero_grad()
    out = model.train()(inputs["img"], words(inputs, setting))
    model.eval()
    labels = labels_for(folder, setting, inputs, out.logits)
    assert torch.equal(labels, expected["label_in_loss"].squeeze(1)), "labels, or pseudo-labels"
    losses = KINDS[kind].criterion(out.logits, labels)
    losses["loss"].backward()
    assert_close(out.logits, expected["stage_mask_sum"], "masks in training")
    for ours, theirs in {"loss_focal": "decode.loss_mask", f"loss_{second}": f"decode.loss_{second}"}.items():
        assert_close(losses[ours], expected["losses"][theirs], ours)
    assert_close(losses["loss"], expected["total"], "total")
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    compared = {"prompts.tokens"}
    prompts = [expected["grads"][f"backbone.{part}prompt_embeddings"] for part in ("", "deep_")]
    assert_close(gradients["prompts.tokens"], torch.cat(prompts), "gradient of the prompts")
    for theirs, ours in trained_pairs(model).items():
        compared.add(ours)
        if not is_noise(theirs, model):
            assert_close(gradients[ours], expected["grads"][theirs], f"gradient of {theirs}")
    assert compared == gradients.keys()
    assert len(compared) + 1 == len(expected["grads"]), "some published gradient has no counterpart"
    model.zero_grad()


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_optimiser_steps(kind, folder, setting):
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
        logits = model(inputs["img"], words(inputs, setting)).logits
        loss = KINDS[kind].criterion(logits, labels_for(folder, setting, inputs, logits))["loss"]
        assert loss.item() == pytest.approx(row["loss"], rel=TOLERANCE), f"step {index}"
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    after = dict(model.named_parameters())
    for theirs, ours in trained_pairs(model).items():
        if not is_noise(theirs, model):
            assert_close(after[ours].detach(), expected["params"][theirs], f"{theirs} after the steps")
    prompts = [expected["params"][f"backbone.{part}prompt_embeddings"] for part in ("", "deep_")]
    assert_close(after["prompts.tokens"].detach(), torch.cat(prompts), "prompts after the steps")
    model.load_state_dict(before)


def test_parameter_groups(kind, folder):
    model, _, _ = case(folder, unused=True)
    expected = json.loads((folder / "optim_groups.json").read_text())
    groups = model.parameter_groups(OptimSettings())
    trained = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    live = [p for p in case(folder)[0].parameters() if p.requires_grad]
    assert sum(p.numel() for g in groups for p in g["params"]) == expected["trainable_elements"]
    assert sum(p.numel() for p in live) == expected["trainable_with_gradient_elements"]
    parameters, names = dict(model.named_parameters()), renamed(model)
    for row in expected["per_param"]:
        if row["name"] in names:
            rule = trained.get(id(parameters[names[row["name"]]]))
            assert rule == ((row["lr"], row["weight_decay"]) if row["requires_grad"] else None), row["name"]
