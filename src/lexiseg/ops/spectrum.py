"""Filtering of patch grids in the frequency domain."""

import torch
from torch import Tensor


def resample_response(response: Tensor, grid: tuple[int, int]) -> Tensor:
    """Bring a filter's frequency response from the grid it is stored for to another.

    A response is a function of frequency in cycles per patch, whatever the grid; a grid only says at which frequencies
    it is read. So it is read, linearly between its stored values, at the other grid's frequencies: rows run once around
    a period, columns from 0 to one half.

    Args:
        response: ``(n, n // 2 + 1, D)`` complex, of a square grid of side n, in the order of ``torch.fft.rfft2``.
        grid: h and w.

    Returns:
        ``(h, w // 2 + 1, D)``; the very tensor given where the grid is its own.
    """
    side = len(response)
    height, width = grid
    if grid == (side, side):
        return response
    rows = torch.arange(height, device=response.device) * (side / height)
    columns = torch.arange(width // 2 + 1, device=response.device) * (side / width)
    response = _read(response, rows, dim=0, period=side)
    return _read(response, columns, dim=1, period=None)


def filter_map(patches: Tensor, response: Tensor) -> Tensor:
    """Multiply the two-dimensional spectrum of ``(B, h, w, D)`` real maps by ``(h, w // 2 + 1, D)``, in float32."""
    height, width = patches.shape[1:3]
    spectrum = torch.fft.rfft2(patches.float(), dim=(1, 2), norm="ortho") * response
    return torch.fft.irfft2(spectrum, s=(height, width), dim=(1, 2), norm="ortho").to(patches.dtype)


def _read(values: Tensor, positions: Tensor, *, dim: int, period: int | None) -> Tensor:
    """Linear interpolation along one axis; periodic, or clamped at the last value."""
    below = positions.floor().long()
    above = below + 1
    above = above % period if period is not None else above.clamp(max=values.shape[dim] - 1)
    below = below.clamp(max=values.shape[dim] - 1)
    share = (positions - positions.floor()).to(values.real.dtype)
    share = share.view(-1, *[1] * (values.ndim - dim - 1))
    return values.index_select(dim, below) * (1 - share) + values.index_select(dim, above) * share
