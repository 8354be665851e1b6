"""How alike the blocks of a tower are: linear CKA between every two of them over photographs (Cascade-CLIP, figure 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor

from lexiseg.errors import DataError
from lexiseg.ops.centered_kernel_alignment import (
    FEWEST_EXAMPLES,
    Estimator,
    PairSums,
    alignment,
    hsic,
    pair_sums,
)


@dataclass(frozen=True)
class LayerSimilarityResult:
    """CKA between blocks.

    Attributes:
        matrix: ``(L, L)`` symmetric, 1 on the diagonal; NaN where a block does not vary.
        patches: Over how many patch tokens.
    """

    matrix: Tensor
    patches: int

    @property
    def last_to_others(self) -> float:
        """Mean CKA of the last block with every other: the framed row of the paper's figure."""
        return float(self.matrix[-1, :-1].mean())

    @property
    def neighbours(self) -> float:
        """Mean CKA of adjacent blocks."""
        return float(self.matrix.diagonal(1).mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "last_to_others": self.last_to_others,
            "neighbours": self.neighbours,
            "matrix": self.matrix.tolist(),
        }


class LayerSimilarity:
    """Gathers CKA between blocks, photograph by photograph, with every patch token as one example.

    Memory does not grow with photographs: L (L + 1) / 2 matrices of D × D in float64, 0.37 GB for the 12 blocks
    of a ViT-B. The result does not depend on the order of the photographs. The paper cites Kornblith et al. and does
    not say which examples or which estimator it took.

    Args:
        estimator: See :data:`~lexiseg.ops.centered_kernel_alignment.Estimator`.
    """

    def __init__(self, estimator: Estimator = "unbiased") -> None:
        self.estimator = estimator
        self._shifts: list[Tensor] = []
        self._sums: dict[tuple[int, int], PairSums] = {}

    def update(self, blocks: Sequence[Tensor]) -> None:
        """Count the patches of one photograph, ``(N, D)`` after each block."""
        if not self._shifts:
            # CLIP's tokens share a mean far longer than their spread; its square would drown the sums.
            self._shifts = [tokens.mean(0) for tokens in blocks]
        shifted = [tokens - shift for tokens, shift in zip(blocks, self._shifts, strict=True)]
        for pair in combinations_with_replacement(range(len(shifted)), 2):
            sums = pair_sums(shifted[pair[0]], shifted[pair[1]])
            self._sums[pair] = self._sums[pair] + sums if pair in self._sums else sums

    def compute(self) -> LayerSimilarityResult:
        """CKA over everything counted.

        Raises:
            DataError: Fewer patches than the estimator needs.
        """
        patches = next(iter(self._sums.values())).count if self._sums else 0
        if patches < FEWEST_EXAMPLES:
            raise DataError(
                f"{patches} patches of all photographs together; CKA needs at least {FEWEST_EXAMPLES}, and hundreds to "
                "mean something: give more or larger photographs"
            )
        between = {pair: hsic(sums, self.estimator) for pair, sums in self._sums.items()}
        depth = len(self._shifts)
        matrix = torch.empty(depth, depth, dtype=torch.float64)
        for (i, j), value in between.items():
            matrix[i, j] = matrix[j, i] = alignment(value, between[i, i], between[j, j])
        return LayerSimilarityResult(matrix, patches)
