"""Lloyd's k-means on one set of points."""

import torch
from torch import Tensor


def k_means(
    points: Tensor, clusters: int, *, seed: int = 0, iterations: int = 100, tolerance: float = 1e-4
) -> Tensor:
    """Assign points to clusters of least squared distance to their means.

    Starts from random points and stops when the centres together move less than ``tolerance`` (squared) or after
    ``iterations``, as PixelCLIP's DINO masks do; there the random start has no seed, and a cluster that loses all its
    points loses its centre too. Here it keeps its centre and may win points back.

    Args:
        points: ``(N, C)``.
        clusters: How many; at most N are used.
        seed: Of the random start; the same points and seed give the same clusters.
        iterations: Most rounds.
        tolerance: Squared movement of all centres that ends the search.

    Returns:
        N cluster ids.
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.randperm(len(points), generator=generator)[:clusters].to(points.device)
    centres = points[start]
    labels = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    for _ in range(iterations):
        labels = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, labels, points)
        counts = torch.bincount(labels, minlength=len(centres))[:, None]
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        shift = (moved - centres).square().sum()
        centres = moved
        if shift < tolerance:
            break
    return labels
