"""The momentum teacher: a slow average of the tuned tower, for steady mask features (PixelCLIP)."""

import torch
from torch import Tensor, nn

from lexiseg.models.tuned_tower import TunedTower


class MomentumTeacher(nn.Module):
    """Exponential moving average of a student's tuned parameters; whatever does not train is shared with it.

    Args:
        student: Starts equal to it.
        momentum: Share of the old average kept at each update, 0.999 as published.
    """

    def __init__(self, student: TunedTower, momentum: float) -> None:
        super().__init__()
        self.average = student.twin().requires_grad_(requires_grad=False)
        self.momentum = momentum

    @torch.no_grad()
    def update(self, student: TunedTower) -> None:
        """Move a step towards the student."""
        for mine, theirs in zip(self.average.parameters(), student.parameters(), strict=True):
            mine.mul_(self.momentum).add_(theirs, alpha=1 - self.momentum)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to patch features ``(B, E, h, w)``, without gradient."""
        return self.average(images)
