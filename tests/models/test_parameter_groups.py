"""Which parameter gets which rate and decay, by hand."""

import pytest
from torch import nn

from lexiseg.models.parameter_groups import group_parameters
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
