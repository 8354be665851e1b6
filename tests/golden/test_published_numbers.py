"""What needs no weights equals the published implementations: committed numbers, and those that LEXISEG_GOLDEN names."""

import json

import pytest
import torch
from published_cases import TOLERANCE, assert_close

from lexiseg.losses.criterion import MaskCriterion
from lexiseg.losses.functional import dice_loss, sigmoid_focal_loss
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.training.optim import OptimSettings, polynomial_with_warmup
from support import golden_files, load_numbers

SSIM = MaskCriterion(MaskLossWeights(dice=0.0, ssim=1.0))
CRITERIA = {"cascade": MaskCriterion(), "zegclip": MaskCriterion(), "spt": SSIM}
OURS = {"loss_mask": "loss_focal", "loss_dice": "loss_dice", "loss_ssim": "loss_ssim"}


@pytest.mark.parametrize("path", golden_files("cascade", "lr_schedule.json"), ids=str)
def test_schedule(path):
    expected = json.loads(path.read_text())
    for title, table in expected["table"].items():
        if "lr=0 group" in title:
            continue
        max_steps = int(title.split("max_iters=")[1].split()[0])
        settings = OptimSettings(
            lr=2e-4 if "backbone/head" in title else expected["base_lr"],
            power=expected["power"],
            min_lr=expected["min_lr"],
            warmup_steps=expected["warmup_iters"],
            warmup_ratio=expected["warmup_ratio"],
        )
        for step, value in table.items():
            assert polynomial_with_warmup(int(step), max_steps, settings) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("method", CRITERIA)
@pytest.mark.parametrize("path", golden_files("cascade", "losses.*"), ids=str)
def test_losses(path, method):
    cases = {name: case for name, case in load_numbers(path).items() if name.startswith(method)}
    assert cases
    for name, numbers in cases.items():
        if "pred_masks" not in numbers:
            continue
        masks = numbers["pred_masks"].clone().requires_grad_()
        losses = CRITERIA[method](masks, numbers["label"].long())
        for theirs, value in numbers["losses"].items():
            assert_close(losses[OURS[theirs]], value, f"{name}: {theirs}")
        if "grad" in numbers:
            losses["loss"].backward()
            assert_close(losses["loss"], numbers["total"], f"{name}: total")
            assert_close(masks.grad, numbers["grad"], f"{name}: gradient")


@pytest.mark.parametrize("path", golden_files("cascade", "losses.*"), ids=str)
def test_loss_functions(path):
    for name, numbers in load_numbers(path).items():
        if name.endswith("_functions"):
            logits, targets = numbers["x"], numbers["t"].float()
            for ours, key in ((dice_loss, "dice"), (sigmoid_focal_loss, "focal")):
                value = ours(logits, targets) / len(logits)
                assert torch.isclose(value, numbers[key], rtol=TOLERANCE), f"{name}: {key}"
