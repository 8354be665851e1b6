"""Filtering of patch grids in the frequency domain."""

import math

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
    # A program traced for any grid has no such branch; read at their own frequencies, the values stay as they are.
    if not torch.compiler.is_compiling() and grid == (side, side):
        return response
    rows = _positions(height, side=side, size=height, device=response.device)
    columns = _positions(width // 2 + 1, side=side, size=width, device=response.device)
    parts = _read(torch.view_as_real(response), rows, dim=0, period=side)
    return torch.view_as_complex(_read(parts, columns, dim=1, period=None))


def filter_map(patches: Tensor, response: Tensor) -> Tensor:
    """Multiply the two-dimensional spectrum of ``(B, h, w, D)`` real maps by ``(h, w // 2 + 1, D)``, in float32."""
    if torch.compiler.is_compiling():
        return filter_map_by_products(patches, response)
    height, width = patches.shape[1:3]
    spectrum = torch.fft.rfft2(patches.float(), dim=(1, 2), norm="ortho") * response
    return torch.fft.irfft2(spectrum, s=(height, width), dim=(1, 2), norm="ortho").to(patches.dtype)


def filter_map_by_products(patches: Tensor, response: Tensor) -> Tensor:
    """:func:`filter_map` by dense real products, for programs that leave PyTorch.

    Other runtimes have no inverse transform to real values, or a wrong one, and compilers no complex numbers. On grids
    of some dozen patches the products are as fast as the transform.
    """
    height, width = patches.shape[1:3]
    rows, columns = _turns(height, height, patches.device), _turns(width, width // 2 + 1, patches.device)
    real, imaginary = _turn(patches.float(), None, columns, "bhwd,wv->bhvd")
    real, imaginary = _turn(real, imaginary, rows, "bhvd,hu->buvd")
    factor, other = torch.view_as_real(response).unbind(-1)
    real, imaginary = real * factor - imaginary * other, real * other + imaginary * factor
    back = rows[0], -rows[1]
    real, imaginary = _turn(real, imaginary, back, "buvd,hu->bhvd")
    # Of the frequencies that the half spectrum leaves out, each mirrors one that it holds; 0 and one half have no mirror.
    frequencies = torch.arange(width // 2 + 1, device=patches.device)
    mirrored = 2 - (2 * frequencies % _number(width, patches.device) == 0).float()
    cosine, sine = (matrix * mirrored for matrix in columns)
    filtered = torch.einsum("bhvd,wv->bhwd", real, cosine) - torch.einsum("bhvd,wv->bhwd", imaginary, sine)
    return (filtered / (height * width)).to(patches.dtype)


Turns = tuple[Tensor, Tensor]


def _turns(size: int, frequencies: int, device: torch.device) -> Turns:
    """Cosine and sine of ``2 pi n k / size``, each ``(size, frequencies)``."""
    steps = torch.arange(size, device=device)[:, None] * torch.arange(frequencies, device=device)
    angles = steps % _number(size, device) * _number(2 * math.pi / size, device)
    return angles.cos(), angles.sin()


def _turn(real: Tensor, imaginary: Tensor | None, turns: Turns, axes: str) -> tuple[Tensor, Tensor]:
    """Products with ``exp(-i angle)`` along one axis."""
    cosine, sine = turns
    if imaginary is None:
        return torch.einsum(axes, real, cosine), -torch.einsum(axes, real, sine)
    return (
        torch.einsum(axes, real, cosine) + torch.einsum(axes, imaginary, sine),
        torch.einsum(axes, imaginary, cosine) - torch.einsum(axes, real, sine),
    )


def _positions(count: int, *, side: int, size: int, device: torch.device) -> Tensor:
    """The first frequencies of a grid of ``size`` patches, on the axis of one of ``side``."""
    return torch.arange(count, device=device) * _number(side / size, device)


def _number(value: float, device: torch.device) -> Tensor:
    """A size, or what is computed from sizes, as a tensor: the form in which a traced program can calculate with it."""
    return torch.full((), value, device=device)


def _read(values: Tensor, positions: Tensor, *, dim: int, period: int | None) -> Tensor:
    """Linear interpolation along one axis; periodic, or clamped at the last value."""
    below = positions.floor().long()
    above = below + 1
    above = above % period if period is not None else above.clamp(max=values.shape[dim] - 1)
    below = below.clamp(max=values.shape[dim] - 1)
    share = (positions - positions.floor()).to(values.dtype)
    share = share.view(-1, *[1] * (values.ndim - dim - 1))
    return values.index_select(dim, below) * (1 - share) + values.index_select(dim, above) * share
