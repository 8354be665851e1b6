"""Which parameter gets which rate and decay, by hand."""

import pytest
import torch
from torch import nn

from lexiseg.models.parameter_groups import group_by_module, group_parameters
from lexiseg.training.optim import OptimSettings


def test_frozen_parameters_are_left_out_and_norms_may_be_exempt():
    model = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2))
    model[2].requires_grad_(requires_grad=False)
    (group,) = group_parameters(model.named_parameters(), OptimSettings(weight_decay=0.3))
    assert [tuple(p.shape) for p in group["params"]] == [(5, 3), (5,), (5,), (5,)]
    assert group["weight_decay"] == 0.3
    settings = OptimSettings(weight_decay=0.3, decay_norms=False)
    decayed, free = group_parameters(model.named_parameters(), settings)
    assert [tuple(p.shape) for p in decayed["params"]] == [(5, 3)]
    assert len(free["params"]) == 3
    assert free["weight_decay"] == 0.0


def test_prompts_may_learn_at_a_rate_of_their_own():
    model = nn.ModuleDict({"prompts": nn.Linear(3, 5), "decoder": nn.Linear(5, 2)})
    groups = group_parameters(model.named_parameters(), OptimSettings(lr=1e-2, prompt_lr_scale=0.1))
    rates = {tuple(p.shape): group["lr"] for group in groups for p in group["params"]}
    assert rates == pytest.approx({(5, 3): 1e-3, (5,): 1e-3, (2, 5): 1e-2, (2,): 1e-2})


def test_new_parts_may_learn_at_a_rate_of_their_own():
    model = nn.ModuleDict({"encoder": nn.Linear(3, 5), "decoder": nn.Linear(5, 2)})
    settings = OptimSettings(lr=1e-2, scratch_lr_scale=10)
    groups = group_parameters(model.named_parameters(), settings, scratch=("decoder.", "head."))
    rates = {tuple(p.shape): group["lr"] for group in groups for p in group["params"]}
    assert rates == pytest.approx({(5, 3): 1e-2, (5,): 1e-2, (2, 5): 1e-1, (2,): 1e-1})


def test_kinds_of_modules_decide_over_decay_and_a_part_may_be_slower():
    backbone = nn.Sequential(nn.Conv2d(3, 5, 1), nn.GroupNorm(1, 5))
    backbone.register_parameter("relative_position_bias_table", nn.Parameter(torch.zeros(9, 2)))
    model = nn.ModuleDict(
        {
            "backbone": backbone,
            "queries": nn.Embedding(7, 4),
            "head": nn.Linear(4, 2),
            "norm": nn.LayerNorm(2),
        }
    )
    model["head"].weight.requires_grad = False
    optim = OptimSettings(lr=1e-2, weight_decay=0.3, decay_norms=False)
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        named[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in group_by_module(model, optim, slow=model["backbone"], slow_scale=0.5)
        for parameter in group["params"]
    }
    assert found == {
        "backbone.0.weight": (5e-3, 0.3),
        "backbone.0.bias": (5e-3, 0.3),
        "backbone.1.weight": (5e-3, 0.0),
        "backbone.1.bias": (5e-3, 0.0),
        "backbone.relative_position_bias_table": (5e-3, 0.0),
        "queries.weight": (1e-2, 0.0),
        "head.bias": (1e-2, 0.3),
        "norm.weight": (1e-2, 0.0),
        "norm.bias": (1e-2, 0.0),
    }
    (whole,) = group_by_module(model, OptimSettings(weight_decay=0.3, decay_norms=True))
    assert whole["weight_decay"] == 0.3
