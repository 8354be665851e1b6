"""Labels, losses, schedule and position embeddings equal the published implementation of Cascade-CLIP.

Runs on every folder that LEXISEG_GOLDEN names; test_mask_models.py compares the model itself.
"""

import json

import pytest
import torch
from published_cases import assert_close, load

from lexiseg.data.splits import seen_label_map
from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.functional import dice_loss, sigmoid_focal_loss
from lexiseg.ops.grid import resize_position_embedding
from lexiseg.training.optim import OptimSettings, polynomial_with_warmup
from lexiseg.types import ClassSplit
from support import golden_folders

FOLDERS = golden_folders("cascade")

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no cascade folder"),
]


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_label_remapping(folder):
    """Seen labels become query indices; everything else becomes 255."""
    inputs, expected = load(folder, "inputs.pt"), load(folder, "train_inductive.pt")
    names = tuple(f"class {i}" for i in inputs["both_class"])
    split = ClassSplit("golden", names, tuple(names[i] for i in inputs["novel_class"]))
    hidden = torch.from_numpy(seen_label_map(split)).long()[inputs["label"]]
    query = torch.full((256,), 255)
    query[list(split.training_ids)] = torch.arange(len(split.training_ids))
    assert torch.equal(query[hidden], expected["label_in_loss"])


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
        native, expected = (
            next(tensor for name, tensor in numbers.items() if name.startswith(prefix))
            for prefix in ("clip_pos_", "resized_")
        )
        side = round((len(expected) - 1) ** 0.5)
        assert_close(
            resize_position_embedding(native, (side, side), "bilinear"), expected, "position embedding"
        )
