"""Merging the regions of an image, the most alike neighbours first."""

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def neighbouring_regions(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Pairs of ids that share a pixel edge in a ``(H, W)`` label map: ``(P, 2)``, lower id first, each pair once."""
    sides = [(labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])]
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in sides]).astype(np.int64)
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)


def merge_regions(
    features: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    pairs: npt.NDArray[np.int64],
    targets: Sequence[int],
) -> list[npt.NDArray[np.int64]]:
    """Join neighbours until so many regions are left, by Ward's criterion.

    Each step joins the two neighbours a, b whose union raises the squared error within regions least: by
    ``|a||b| / (|a| + |b|) · ‖f_a − f_b‖²`` (J. Ward, Hierarchical grouping to optimize an objective function, 1963),
    f being means over a region's pixels. So flat grounds grow large while small things that stand out stay.

    Args:
        features: ``(R, C)`` mean features of the regions.
        sizes: R sizes, in any unit.
        pairs: ``(P, 2)`` neighbours, as :func:`neighbouring_regions` gives them.
        targets: Numbers of regions to stop at.

    Returns:
        For each target the group of every region, R ids from 0 on without gaps. Fewer regions than a target, or
        groups that no pair connects, stay as they are.
    """
    forest = _Forest(features, sizes, pairs)
    found = {target: forest.merge_down_to(target) for target in sorted(set(targets), reverse=True)}
    return [found[target] for target in targets]


class _Forest:
    """Regions while they merge; a candidate on the heap is stale once one of its regions has changed."""

    def __init__(
        self,
        features: npt.NDArray[np.float64],
        sizes: npt.NDArray[np.float64],
        pairs: npt.NDArray[np.int64],
    ) -> None:
        self.means, self.sizes = features.astype(np.float64), sizes.astype(np.float64)
        self.parents, self.versions = list(range(len(sizes))), [0] * len(sizes)
        self.alive = len(sizes)
        self.neighbours: list[set[int]] = [set() for _ in sizes]
        self.heap: list[tuple[float, int, int, int, int]] = []
        for a, b in pairs.tolist():
            self.neighbours[a].add(b)
            self.neighbours[b].add(a)
            self._offer(a, b)

    def merge_down_to(self, target: int) -> npt.NDArray[np.int64]:
        while self.alive > target and self.heap:
            _, a, b, version_a, version_b = heapq.heappop(self.heap)
            if (self.versions[a], self.versions[b]) == (version_a, version_b):
                self._join(a, b)
        roots = [self._root(region) for region in range(len(self.parents))]
        return np.unique(roots, return_inverse=True)[1].astype(np.int64)

    def _join(self, a: int, b: int) -> None:
        total = self.sizes[a] + self.sizes[b]
        self.means[a] = (self.sizes[a] * self.means[a] + self.sizes[b] * self.means[b]) / total
        self.sizes[a], self.parents[b] = total, a
        self.versions[a] += 1
        self.versions[b] = -1
        self.alive -= 1
        for other in self.neighbours[b] - {a}:
            self.neighbours[other].discard(b)
            self.neighbours[other].add(a)
        self.neighbours[a] = (self.neighbours[a] | self.neighbours[b]) - {a, b}
        for other in self.neighbours[a]:
            self._offer(a, other)

    def _offer(self, a: int, b: int) -> None:
        a, b = min(a, b), max(a, b)
        gap = self.means[a] - self.means[b]
        weight = self.sizes[a] * self.sizes[b] / (self.sizes[a] + self.sizes[b])
        candidate = (float(weight * (gap @ gap)), a, b, self.versions[a], self.versions[b])
        heapq.heappush(self.heap, candidate)

    def _root(self, region: int) -> int:
        while self.parents[region] != region:
            region = self.parents[region]
        return region
