"""A traced program knows that it is one."""

import torch
from torch import nn

from lexiseg.ops.tracing import is_exporting


class Doubled(nn.Module):
    def forward(self, inputs):
        return inputs * (2 if is_exporting() else 1)


def test_only_a_traced_call_is_exporting():
    inputs = torch.ones(3)
    program = torch.export.export(Doubled(), (inputs,), strict=False)
    assert program.module()(inputs).tolist() == [2, 2, 2]
    assert Doubled()(inputs).tolist() == [1, 1, 1]
    assert not is_exporting()
