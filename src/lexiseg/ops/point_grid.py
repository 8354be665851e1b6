"""Points spread evenly over an image."""

import torch
from torch import Tensor


def point_grid(per_side: int) -> Tensor:
    """Centres of ``per_side`` x ``per_side`` equal parts of the unit square, row by row.

    Returns:
        ``(per_side², 2)`` points ``(x, y)`` in (0, 1).
    """
    places = (torch.arange(per_side, dtype=torch.float64) + 0.5) / per_side
    y, x = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)
