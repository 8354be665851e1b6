"""Schedule and parameter groups by hand."""

import pytest
import torch
from torch import nn

from lexiseg.errors import ConfigError
from lexiseg.models.parameter_groups import group_parameters
from lexiseg.training.optim import (
    OptimSettings,
    build_optimizer,
    cosine_factor,
    learning_rate,
    polynomial_with_warmup,
)


class Grouped(nn.Sequential):
    """Parts that say themselves how they learn."""

    def parameter_groups(self, optim):
        return group_parameters(self.named_parameters(), optim, prompts="0.")


def test_schedule_by_hand():
    settings = OptimSettings(lr=1e-3, min_lr=1e-5, power=2.0, warmup_steps=4, warmup_ratio=0.1)
    regular = lambda step: (1e-3 - 1e-5) * (1 - step / 10) ** 2 + 1e-5  # noqa: E731
    assert polynomial_with_warmup(0, 10, settings) == pytest.approx(regular(0) * 0.1)
    assert polynomial_with_warmup(2, 10, settings) == pytest.approx(regular(2) * (1 - 0.5 * 0.9))
    assert polynomial_with_warmup(4, 10, settings) == pytest.approx(regular(4))
    assert polynomial_with_warmup(10, 10, settings) == pytest.approx(1e-5)
    assert polynomial_with_warmup(11, 10, settings) == pytest.approx(1e-5)


def test_the_optimiser_follows_the_schedule():
    model, settings = Grouped(nn.Linear(3, 2)), OptimSettings(lr=1e-2, warmup_steps=2)
    optimizer, schedule = build_optimizer(model, settings, 5)
    for step in range(5):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(polynomial_with_warmup(step, 5, settings))
        optimizer.step()
        schedule.step()


def test_the_optimiser_asks_the_model_for_its_groups():
    model = Grouped(nn.Linear(3, 5), nn.Linear(5, 2))
    optimizer, _ = build_optimizer(model, OptimSettings(lr=1e-2, prompt_lr_scale=0.1, warmup_steps=0), 10)
    rates = {tuple(p.shape): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == pytest.approx({(5, 3): 1e-3, (5,): 1e-3, (2, 5): 1e-2, (2,): 1e-2})


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1.0), (50, 0.50005), (100, 1e-4), (200, 1e-4), (25, 0.853568)]
)
def test_cosine_by_hand(step, share):
    assert cosine_factor(step, 100, 1e-4) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.1 * 1e-2), (1, 0.55 * 1e-2), (2, 1e-2), (6, 1e-2), (7, 2e-3), (10, 2e-3), (11, 4e-4), (40, 4e-4)],
)
def test_steps_by_hand(step, rate):
    settings = OptimSettings(
        schedule="steps", lr=1e-2, milestones=(7, 11), milestone_factor=0.2, warmup_steps=2, warmup_ratio=0.1
    )
    assert learning_rate(step, 13, settings) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.25), (3, 1.0), (4, 1.0), (9, 0.5005), (14, 1e-3), (20, 1e-3)]
)
def test_cosine_after_a_warm_up_by_hand(step, rate):
    settings = OptimSettings(schedule="cosine", lr=1.0, min_lr=1e-3, warmup_steps=4)
    assert learning_rate(step, 14, settings) == pytest.approx(rate)


def test_the_optimiser_follows_the_schedule_that_is_chosen():
    settings = OptimSettings(schedule="steps", lr=1e-2, milestones=(1, 3), warmup_steps=0)
    optimizer, schedule = build_optimizer(Grouped(nn.Linear(3, 2)), settings, 5)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-2, 1e-3, 1e-3, 1e-4, 1e-4])


@pytest.mark.parametrize(
    ("schedule", "milestones", "message"),
    [
        (
            "polynomial",
            (3, 5),
            r"optim.milestones: a polynomial reads none, got \[3, 5\]; set optim.schedule=steps",
        ),
        ("cosine", (3,), "optim.milestones: a cosine reads none"),
        ("steps", (), "optim.schedule: steps without milestones"),
    ],
)
def test_milestones_and_schedule_go_together(schedule, milestones, message):
    with pytest.raises(ConfigError, match=message):
        OptimSettings(schedule=schedule, milestones=milestones)


@pytest.mark.parametrize("milestones", [(3, 1), (-1, 2)])
def test_milestones_that_are_none(milestones):
    with pytest.raises(ConfigError, match="optim.milestones: expected steps in ascending order"):
        OptimSettings(schedule="steps", milestones=milestones)


def test_sgd_by_hand():
    model = Grouped(nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    settings = OptimSettings(kind="sgd", lr=0.1, momentum=0.5, weight_decay=0.3, warmup_steps=0)
    optimizer, _ = build_optimizer(model, settings, 10)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
    first = 1 + 0.3 * 2  # decay is part of the gradient
    weight = 2 - 0.1 * first
    second = 0.5 * first + 1 + 0.3 * weight
    assert float(model[0].weight.detach()) == pytest.approx(weight - 0.1 * second)


def test_impossible_settings():
    with pytest.raises(ConfigError, match="optim.lr: expected above 0, got 0.0"):
        OptimSettings(lr=0.0)


def test_frozen_parameters_do_not_move():
    model = Grouped(nn.Linear(3, 5), nn.Linear(5, 2))
    model[0].requires_grad_(requires_grad=False)
    before = model[0].weight.clone()
    optimizer, _ = build_optimizer(model, OptimSettings(lr=1.0, warmup_steps=0), 10)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(model[0].weight, before)
