"""Spectral prompts: a filter over the patches' spectrum before the first blocks (SPT-SEG)."""

import torch
from torch import Tensor, nn

from lexiseg.ops.spectrum import filter_map, resample_response

_FILTERED_BLOCKS = 2
"""Before the first two blocks only; the release computes the filter before every block and drops the later results."""

_INITIAL_DEVIATION = 0.02


class SpectralFilter(nn.Module):
    """``x + F^-1(W * F(x * cls))``: patches times the class token, filtered and added to the patches.

    The release stores W for a grid of 32×32 patches (512 pixels) and fails, or silently rearranges the patches, on any
    other. Here W is what it stands for, a response per frequency in cycles per patch, and is read at the frequencies of
    whichever grid the image has; see :func:`lexiseg.ops.spectrum.resample_response`. On its own grid nothing changes.

    The release freezes every weight of its backbone without "prompt" in its name, and so this one, at random values
    that are part of its checkpoints; ``trained`` trains it.

    Args:
        width: Channels D of the tower's tokens.
        side: Patches per side of the grid W is stored for.
        trained: See above.
    """

    def __init__(self, width: int, *, side: int = 32, trained: bool = False) -> None:
        super().__init__()
        shape = (side, side // 2 + 1, width, 2)  # real and imaginary part last
        self.weight = nn.Parameter(_INITIAL_DEVIATION * torch.randn(shape), requires_grad=trained)

    def forward(self, tokens: Tensor, index: int, grid: tuple[int, int]) -> Tensor:
        """Tokens before block ``index`` (from 0), filtered if it is one of the first.

        Args:
            tokens: ``(B, 1 [+ P] + h*w, D)``: class token, perhaps prompts, patches.
            index: Block.
            grid: h and w.
        """
        if index >= _FILTERED_BLOCKS:
            return tokens
        area = grid[0] * grid[1]
        rest, patches = tokens[:, :-area], tokens[:, -area:]
        response = resample_response(torch.view_as_complex(self.weight.float()), grid)
        filtered = filter_map((patches * tokens[:, :1]).unflatten(1, grid), response)
        return torch.cat([rest, patches + filtered.flatten(1, 2)], dim=1)
