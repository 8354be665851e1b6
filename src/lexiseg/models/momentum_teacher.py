"""The momentum teacher: a slow average of a network, for steady mask features (PixelCLIP) or pseudo-labels (self-training)."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class MomentumTeacher(nn.Module):
    """Exponential moving average of a student's parameters, always in evaluation mode.

    Args:
        student: Starts equal to it.
        momentum: Share of the old average kept at each update, 0.999 as PixelCLIP publishes.
        shared: What of the student is not copied: its frozen tower, or single parameters.
    """

    def __init__(self, student: nn.Module, momentum: float, *, shared: Iterable[object] = ()) -> None:
        super().__init__()
        average = copy.deepcopy(student, {id(part): part for part in shared})
        self.average = average.requires_grad_(requires_grad=False).eval()
        self.momentum = momentum

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move a step towards the student; buffers are copied."""
        for mine, theirs in zip(self.average.parameters(), student.parameters(), strict=True):
            mine.mul_(self.momentum).add_(theirs, alpha=1 - self.momentum)
        for kept, given in zip(self.average.buffers(), student.buffers(), strict=True):
            kept.copy_(given)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the average answers, without gradient."""
        return self.average(*inputs)

    def train(self, mode: bool = True) -> "MomentumTeacher":
        """Stay in evaluation mode: a teacher answers without dropout."""
        return super().train(mode=False)
