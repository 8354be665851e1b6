"""Objects of a photograph by repeated normalised cuts of its patches (LaVG, Kang and Cho, ECCV 2024, section 3.1).

Every array is of one photograph. Patches that no object has taken yet are *free*; each cut splits them in two, and one
connected piece of the side that looks like an object is taken.
"""

import numpy as np
import numpy.typing as npt
from scipy import linalg, ndimage
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

_FLOOR = 1e-5
"""Weight between patches that are not alike: it alone keeps the graph in one piece."""

_FEWEST = 5
"""With so many free patches or fewer no cut is made, as in the release, whose solver can do no more."""

_DENSE = 1024
"""Up to so many patches the eigenproblem is solved whole; beyond, by Lanczos iterations."""


def cut_objects(features: Floats, *, threshold: float, most: int) -> Bools:
    """Masks of at most ``most`` objects, in the order in which they are found.

    Args:
        features: ``(C, h, w)`` of each patch, of any length.
        threshold: Cosine above which two patches are joined.
        most: Cuts.

    Returns:
        ``(M, h, w)``; they do not overlap. M is smaller than ``most`` where fewer than six patches were left over.
    """
    grid = features.shape[1:]
    flat, free = features.reshape(len(features), -1), np.ones(grid, dtype=np.bool_)
    found: list[Bools] = []
    while len(found) < most and free.sum() > _FEWEST:
        cut = cut_vector(patch_graph(flat[:, free.ravel()], threshold=threshold))
        vector, side = object_side(cut, above_mean(cut, free), free)
        found.append(piece_at(side, seed_of(vector, free)))
        free &= ~found[-1]
    return np.stack(found) if found else np.zeros((0, *grid), dtype=np.bool_)


def patch_graph(features: Floats, *, threshold: float) -> npt.NDArray[np.float32]:
    """Weights ``(n, n)`` between the patches of ``(C, n)`` features: 1 where their cosine is above the threshold, else 1e-5."""
    lengths = np.linalg.norm(features, axis=0, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    alike = unit.T @ unit > threshold
    np.fill_diagonal(alike, val=True)
    return np.where(alike, np.float32(1), np.float32(_FLOOR))


def cut_vector(weights: Floats) -> npt.NDArray[np.float64]:
    """Second smallest solution of ``(D - A) v = λ D v``, with ``vᵀ D v = 1`` and its largest entry positive.

    With ``u = D^½ v`` this is the second largest eigenvector of ``D^-½ A D^-½``, whose largest, ``D^½ 1``, is known and
    taken out. The release starts its solver at random, which leaves the sign to chance, and with it which side becomes
    the object in some cases; here the sign is fixed and the start is the same every time. Where λ is a multiple
    eigenvalue, as among patches that are all unlike each other, any vector of its space is a solution.

    Args:
        weights: ``(n, n)`` symmetric and positive, n of at least 2.

    Returns:
        ``(n,)``.
    """
    count = len(weights)
    root = np.sqrt(weights.sum(axis=1, dtype=np.float64))
    trivial = root / np.linalg.norm(root)
    vector = _largest(weights, root, trivial) if count > _DENSE else _largest_dense(weights, root, trivial)
    vector = vector / root / np.linalg.norm(vector)
    return vector if vector[np.abs(vector).argmax()] > 0 else -vector


def above_mean(vector: Floats, free: Bools) -> Bools:
    """Patches ``(h, w)`` whose entry of ``(n,)`` is above the mean; n is the number of free patches ``(h, w)``."""
    side = np.zeros(free.shape, dtype=np.bool_)
    side[free] = vector > vector.mean()
    return side


def corners_in(side: Bools) -> int:
    """How many of the grid's four corners ``(h, w)`` are in it."""
    return int(side[[0, 0, -1, -1], [0, -1, 0, -1]].sum())


def object_side(vector: Floats, side: Bools, free: Bools) -> tuple[Floats, Bools]:
    """The side of a cut that is taken for the object: turned around where it holds three corners or not the largest entry.

    Args:
        vector: ``(n,)`` entries of the free patches.
        side: ``(h, w)`` of :func:`above_mean`.
        free: ``(h, w)``.

    Returns:
        The vector, negated if the sides were exchanged, and the side; both of the free patches only.
    """
    if corners_in(side) >= 3 or not side[free][np.abs(vector).argmax()]:
        return -vector, free & ~side
    return vector, side


def seed_of(vector: Floats, free: Bools) -> tuple[int, int]:
    """Row and column of the free patch with the largest of ``(n,)`` entries."""
    row, column = np.argwhere(free)[vector.argmax()]
    return int(row), int(column)


def piece_at(side: Bools, seed: tuple[int, int]) -> Bools:
    """The piece of ``(h, w)`` that holds the seed, neighbours being those that share an edge."""
    pieces, _ = ndimage.label(side)
    piece: Bools = pieces == pieces[seed]
    return piece & side


def settled(mask: Bools, refined: Bools, *, least_overlap: float) -> Bools:
    """A refined mask ``(h, w)`` with its holes filled; empty where that has left the mask it came from.

    Args:
        mask: ``(h, w)`` before refinement.
        refined: ``(h, w)``.
        least_overlap: Intersection over union of the two, the second without holes, below which it counts as lost.
    """
    whole: Bools = ndimage.binary_fill_holes(refined)
    overlap = (mask & whole).sum() / max((mask | whole).sum(), 1)
    return whole if overlap >= least_overlap else np.zeros_like(whole)


def _largest_dense(weights: Floats, root: Floats, trivial: Floats) -> Floats:
    matrix = weights / root / root[:, None] - 2 * np.outer(trivial, trivial)
    last = len(weights) - 1
    _, vectors = linalg.eigh(matrix, subset_by_index=(last, last))
    return np.asarray(vectors[:, 0], dtype=np.float64)


def _largest(weights: Floats, root: Floats, trivial: Floats) -> Floats:
    """By iterations that read the weights as they are; whole where they do not converge."""

    def times(vector: Floats) -> Floats:
        flat = vector.ravel()
        product = (weights @ (flat / root).astype(weights.dtype)) / root
        return product - 2 * trivial * (trivial @ flat)

    count = len(weights)
    operator = LinearOperator((count, count), matvec=times, dtype=np.float64)
    start = np.cos(np.arange(count, dtype=np.float64))
    try:
        _, vectors = eigsh(operator, k=1, which="LA", v0=start, ncv=32, maxiter=200, tol=1e-5)
    except ArpackNoConvergence:
        return _largest_dense(weights, root, trivial)
    return np.asarray(vectors[:, 0], dtype=np.float64)
