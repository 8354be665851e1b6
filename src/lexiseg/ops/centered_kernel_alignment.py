"""Linear centred kernel alignment (CKA) between features of the same examples, from sums that can be added up.

Kornblith et al., Similarity of neural network representations revisited, ICML 2019. With ``K = X Xᵀ``, ``L = Y Yᵀ`` over
n examples and HSIC a measure of how much two kernels have in common, ``CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))``.
Neither estimator of HSIC below needs the n×n kernels: both follow from sums over examples, so any number of
examples may be seen a few at a time, and how they were parted does not change the result.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["unbiased", "plain"]
"""``plain``: Kornblith's, ``‖Xcᵀ Yc‖² / (n - 1)²``, too large while examples are few beside channels. ``unbiased``: the
U-statistic of Song et al. (Feature selection via dependence maximization, JMLR 2012, eq. 5), which has no such bias."""

FEWEST_EXAMPLES = 4
"""Below that the unbiased estimator does not exist."""


@dataclass(frozen=True)
class PairSums:
    """Sums over n examples of two features of theirs: all that either estimator needs; float64.

    Attributes:
        count: n.
        cross: ``Σ x yᵀ``, ``(Dx, Dy)``.
        first: ``Σ x``, ``(Dx,)``.
        second: ``Σ y``, ``(Dy,)``.
        first_weighted: ``Σ x ‖y‖²``, ``(Dx,)``.
        second_weighted: ``Σ y ‖x‖²``, ``(Dy,)``.
        first_squares: ``Σ ‖x‖²``.
        second_squares: ``Σ ‖y‖²``.
        both_squares: ``Σ ‖x‖² ‖y‖²``.
    """

    count: int
    cross: Tensor
    first: Tensor
    second: Tensor
    first_weighted: Tensor
    second_weighted: Tensor
    first_squares: Tensor
    second_squares: Tensor
    both_squares: Tensor

    def __add__(self, other: "PairSums") -> "PairSums":
        return PairSums(
            *(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True))
        )


def pair_sums(first: Tensor, second: Tensor) -> PairSums:
    """The sums of some examples; add those of others with ``+``.

    CKA does not change when a constant is taken from all examples, rounding does: subtract something near the mean
    beforehand where the mean is large beside the spread.

    Args:
        first: ``(n, Dx)``, one row per example.
        second: ``(n, Dy)``, the same examples.

    Raises:
        ValueError: The numbers of examples differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} examples; expected two features of the same ones")
    x, y = first.double(), second.double()
    x_squares, y_squares = x.square().sum(1), y.square().sum(1)
    return PairSums(
        count=len(x),
        cross=x.T @ y,
        first=x.sum(0),
        second=y.sum(0),
        first_weighted=y_squares @ x,
        second_weighted=x_squares @ y,
        first_squares=x_squares.sum(),
        second_squares=y_squares.sum(),
        both_squares=x_squares @ y_squares,
    )


def hsic(sums: PairSums, estimator: Estimator = "unbiased") -> Tensor:
    """Hilbert-Schmidt independence criterion of two linear kernels, a number; the unbiased one may be below 0.

    With ``K̃, L̃`` the kernels without their diagonals, the unbiased one is ``(tr(K̃L̃) + 1ᵀK̃1 1ᵀL̃1 / ((n-1)(n-2)) -
    2 1ᵀK̃L̃1 / (n-2)) / (n(n-3))``.

    Raises:
        ValueError: Fewer than :data:`FEWEST_EXAMPLES` examples.
    """
    n, s = sums.count, sums
    if n < FEWEST_EXAMPLES:
        raise ValueError(f"{n} examples; expected at least {FEWEST_EXAMPLES}")
    if estimator == "plain":
        return (s.cross - torch.outer(s.first, s.second) / n).square().sum() / (n - 1) ** 2
    trace = s.cross.square().sum() - s.both_squares
    first_total = s.first.square().sum() - s.first_squares
    second_total = s.second.square().sum() - s.second_squares
    rows = (
        s.first @ s.cross @ s.second
        - s.first @ s.first_weighted
        - s.second @ s.second_weighted
        + s.both_squares
    )
    shared = trace + first_total * second_total / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)
    return shared / (n * (n - 3))


def alignment(between: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """CKA of two features from their HSIC and that of each with itself; NaN where one does not vary."""
    varies = (first > 0) & (second > 0)
    return torch.where(varies, between / (first.clamp(min=0) * second.clamp(min=0)).sqrt(), torch.nan)


def linear_cka(first: Tensor, second: Tensor, estimator: Estimator = "unbiased") -> Tensor:
    """CKA of two features of the same examples at once.

    Args:
        first: ``(n, Dx)``.
        second: ``(n, Dy)``.
        estimator: See :data:`Estimator`.

    Returns:
        A number, 1 for features equal up to rotation and one common scale. NaN where one does not vary.

    Raises:
        ValueError: Numbers of examples that differ or are below :data:`FEWEST_EXAMPLES`.
    """
    first, second = (feature.double() - feature.double().mean(0) for feature in (first, second))
    pairs = ((first, second), (first, first), (second, second))
    return alignment(*(hsic(pair_sums(x, y), estimator) for x, y in pairs))
