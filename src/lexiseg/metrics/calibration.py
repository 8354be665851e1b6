"""Whether a score means what it says: reliability by bins, and the expected calibration error.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), sec. 2: of all pixels that are called with a confidence of
0.8, eight in ten should be right.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15
"""As in the paper."""


@dataclass(frozen=True)
class Reliability:
    """Pixels sorted into bins of equal width by their confidence; counts of several photographs add up.

    Attributes:
        counts: ``(B,)`` float64 pixels in each bin.
        confidence: ``(B,)`` float64 sum of their confidences.
        correct: ``(B,)`` float64 how many were right.
    """

    counts: Tensor
    confidence: Tensor
    correct: Tensor

    @classmethod
    def of(cls, confidence: Tensor, correct: Tensor, bins: int = BINS) -> "Reliability":
        """Of pixels of any shape.

        Args:
            confidence: From 0 to 1; 1 falls into the last bin.
            correct: Bool, of the same shape.
            bins: B.
        """
        values = confidence.flatten().double()
        place = (values * bins).long().clamp(0, bins - 1)
        right = correct.flatten().double()
        return cls(
            torch.bincount(place, minlength=bins).double(),
            torch.bincount(place, weights=values, minlength=bins),
            torch.bincount(place, weights=right, minlength=bins),
        )

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.counts + other.counts, self.confidence + other.confidence, self.correct + other.correct
        )

    @property
    def error(self) -> float:
        """Expected calibration error: how far confidence and accuracy lie apart, weighted by pixels (eq. 3); NaN of none."""
        total = float(self.counts.sum())
        return float((self.confidence - self.correct).abs().sum()) / total if total else float("nan")

    def rows(self) -> list[tuple[int, float, float]]:
        """Pixels, mean confidence and accuracy of each bin; NaN for the means of an empty one."""
        count = self.counts.clamp(min=1)
        empty = self.counts == 0
        means, accuracy = (
            torch.where(empty, torch.nan, sums / count) for sums in (self.confidence, self.correct)
        )
        return [
            (int(pixels), float(mean), float(right))
            for pixels, mean, right in zip(self.counts, means, accuracy, strict=True)
        ]
