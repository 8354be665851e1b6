"""The largest value in every window of a map, the windows cut so that they cover it at any ratio of sizes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def window_max(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Torch's adaptive max pooling, also in programs traced for any grid.

    Window r of R over h rows reaches from ``floor(r h / R)`` to before ``ceil((r + 1) h / R)``: windows overlap where R does
    not divide h.

    Args:
        maps: ``(B, C, h, w)``.
        grid: ``(R, S)``.

    Returns:
        ``(B, C, R, S)``.
    """
    if not torch.compiler.is_compiling():
        return F.adaptive_max_pool2d(maps, grid)
    return axis_max(axis_max(maps, grid[0], 2), grid[1], 3)


def axis_max(maps: Tensor, size: int, dim: int) -> Tensor:
    """The windows of one axis, without their lengths being known beforehand.

    Of fewer windows than rows, a row lies in two at most; of more, a window holds two rows at most. So each row is put into
    the first and the last window that holds it, each window takes its first and its last row, and nothing is missed.

    Args:
        maps: Any shape.
        size: Number of windows.
        dim: Axis, from 0.
    """
    length = maps.shape[dim]
    windows, rows = torch.arange(size, device=maps.device), torch.arange(length, device=maps.device)
    first, last = windows * length // size, ((windows + 1) * length + size - 1) // size - 1
    found = torch.maximum(maps.index_select(dim, first), maps.index_select(dim, last))
    shape = [1] * maps.ndim
    shape[dim] = -1
    for window in (rows * size // length, ((rows + 1) * size - 1) // length):
        found = found.scatter_reduce(dim, window.view(shape).expand_as(maps), maps, reduce="amax")
    return found
