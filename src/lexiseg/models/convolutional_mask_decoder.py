"""The light convolutional decoder between similarity maps and masks (PixelCLIP)."""

import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS_PER_GROUP = 16
"""Of every group norm, as released."""


class ConvolutionalMaskDecoder(nn.Module):
    """One similarity map at a time to mask logits of four times its size.

    A 3×3 convolution opens the map to C channels; twice, a transposed convolution doubles the size and two 3×3
    convolutions with group norm and ReLU follow, with C and then C/2 channels; a 3×3 convolution closes. No map sees
    another, so any number of clusters goes through the same 118,145 parameters (C = 64).

    Args:
        channels: C; a multiple of 32, so that both widths split into groups of 16.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        half = channels // 2
        self.opening = nn.Conv2d(1, channels, 3, padding=1)
        self.first_upsampling = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.first_block = _double_convolution(channels)
        self.second_upsampling = nn.ConvTranspose2d(channels, half, 2, stride=2)
        self.second_block = _double_convolution(half)
        self.closing = nn.Conv2d(half, 1, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """``(M, 1, h, w)`` similarities to ``(M, 1, 4h, 4w)`` logits."""
        hidden = self.first_block(self.first_upsampling(self.opening(maps)))
        return self.closing(self.second_block(self.second_upsampling(hidden)))


def _double_convolution(channels: int) -> nn.Sequential:
    """Twice a convolution without bias, and the norm and ReLU after it."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        _NormedReLU(channels // _CHANNELS_PER_GROUP, channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        _NormedReLU(channels // _CHANNELS_PER_GROUP, channels),
    )


class _NormedReLU(nn.GroupNorm):
    """Group norm and ReLU, the latter in place: the norm does not need its own output for the gradient."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu_(super().forward(input))
