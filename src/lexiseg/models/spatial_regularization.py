"""LSeg's blocks that smooth the maps of words before they are upsampled."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BlockKind = Literal["none", "bottleneck", "depthwise"]
ActivationKind = Literal["lrelu", "tanh", "relu"]

_SLOPE = 0.01
"""Of the leaky rectifier, as released."""


class SpatialRegularization(nn.Module):
    """One 3x3 convolution of one channel, shared by the maps of all words and by all of its repetitions.

    ``y = conv(x)`` (depthwise), or ``y = conv(x) + max over words of x`` (bottleneck); an activation after every time
    but the last (LSeg, sec. 4.3; the release applies the same module again and again).

    Args:
        kind: ``bottleneck`` or ``depthwise``.
        depth: How often it is applied; 0 is as 1.
        activation: Between these times.
    """

    def __init__(self, kind: BlockKind, *, depth: int, activation: ActivationKind) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, kernel_size=3, padding=1)
        self.kind, self.times, self.activation = kind, max(depth, 1), activation

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of all words ``(B, K, h, w)`` to as many."""
        for time in range(self.times):
            if time:
                maps = self._activate(maps)
            smooth = self.convolution(maps.flatten(0, 1)[:, None])[:, 0].view(maps.shape)
            maps = smooth + maps.amax(1, keepdim=True) if self.kind == "bottleneck" else smooth
        return maps

    def _activate(self, maps: Tensor) -> Tensor:
        if self.activation == "tanh":
            return torch.tanh(maps)
        return F.leaky_relu(maps, _SLOPE) if self.activation == "lrelu" else F.relu(maps)
