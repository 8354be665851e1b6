"""The masks of one image, held as run lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lexiseg.ops.nearest import nearest_indices
from lexiseg.ops.run_length import Counts, decode_rle, encode_labels, encode_rle, sample_rle

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MaskSet:
    """Masks of one image, without names unless they bear words; they may overlap and need not cover it. None is empty.

    Attributes:
        size: Height and width of the image.
        runs: N run lengths in COCO's order; see :mod:`lexiseg.ops.run_length`.
        scores: N qualities in [0, 1] that the provider predicts; 1 where it has no opinion.
        stability: N stabilities in [0, 1]; see :func:`~lexiseg.ops.mask_suppression.stability_score`.
        dropped: How many empty masks were left out.
        words: N words, where each mask was found to show one; otherwise none.
    """

    size: tuple[int, int]
    runs: tuple[Counts, ...]
    scores: Scores
    stability: Scores
    dropped: int = 0
    words: tuple[str, ...] = ()

    @classmethod
    def from_runs(
        cls,
        size: tuple[int, int],
        runs: Sequence[Sequence[int] | Counts],
        scores: Sequence[float] | Scores | None = None,
        stability: Sequence[float] | Scores | None = None,
        words: Sequence[str] = (),
    ) -> "MaskSet":
        """Collect run lengths; empty masks are dropped and counted.

        Args:
            size: Height and width.
            runs: Of each mask, adding up to the size.
            scores: One per mask; 1 if None.
            stability: One per mask; 1 if None.
            words: One per mask, or none.
        """
        arrays = [np.asarray(counts, dtype=np.int64) for counts in runs]
        filled = np.array([bool(counts[1::2].any()) for counts in arrays], dtype=np.bool_)
        return cls(
            size=size,
            runs=tuple(counts for counts, keep in zip(arrays, filled, strict=True) if keep),
            scores=_scores(scores, len(arrays))[filled],
            stability=_scores(stability, len(arrays))[filled],
            dropped=int(len(arrays) - filled.sum()),
            words=tuple(word for word, keep in zip(words, filled, strict=True) if keep) if words else (),
        )

    @classmethod
    def from_masks(cls, masks: npt.NDArray[np.bool_], scores: Sequence[float] | None = None) -> "MaskSet":
        """Encode ``(N, H, W)`` boolean masks."""
        return cls.from_runs((masks.shape[1], masks.shape[2]), [encode_rle(mask) for mask in masks], scores)

    @classmethod
    def from_labels(cls, *labels: npt.NDArray[np.integer]) -> "MaskSet":
        """One mask per id of ``(H, W)`` label maps of one size, the largest first; a mask met again counts once."""
        size = (labels[0].shape[0], labels[0].shape[1])
        unique = {counts.tobytes(): counts for part in labels for counts in encode_labels(part)}
        return cls.from_runs(size, list(unique.values())).largest(len(unique))

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Each mask ``(H, W)`` in turn, decoded when it is asked for."""
        return (decode_rle(counts, self.size) for counts in self.runs)

    @cached_property
    def areas(self) -> npt.NDArray[np.int64]:
        """Pixels of each mask."""
        return np.array([counts[1::2].sum() for counts in self.runs], dtype=np.int64)

    def largest(self, most: int) -> "MaskSet":
        """At most so many masks, the largest first; equal ones in their order."""
        return self.chosen(np.argsort(-self.areas, kind="stable")[:most])

    def chosen(self, indices: npt.NDArray[np.integer]) -> "MaskSet":
        """Some of the masks, in the order of their indices."""
        return MaskSet(
            size=self.size,
            runs=tuple(self.runs[index] for index in indices),
            scores=self.scores[indices],
            stability=self.stability[indices],
            dropped=self.dropped,
            words=tuple(self.words[index] for index in indices) if self.words else (),
        )

    def arrays(self, at: tuple[int, int] | None = None) -> npt.NDArray[np.bool_]:
        """Boolean masks ``(N, h, w)``: at the image's size, or nearest pixels at another, without the detour."""
        height, width = at or self.size
        return self.sample(nearest_indices(self.size[0], height), nearest_indices(self.size[1], width))

    def sample(
        self, rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.bool_]:
        """Boolean masks ``(N, h, w)`` at h rows and w columns in any order: any crop, scale and flip at once."""
        # The run lengths answer for ascending pixels, each once; order and repetition come afterwards.
        unique_rows, row_places = np.unique(rows, return_inverse=True)
        unique_columns, column_places = np.unique(columns, return_inverse=True)
        masks = np.empty((len(self), len(rows), len(columns)), dtype=np.bool_)
        for mask, counts in zip(masks, self.runs, strict=True):
            found = sample_rle(counts, self.size, unique_rows, unique_columns)
            mask[:] = found[row_places[:, None], column_places]
        return masks


def _scores(values: Sequence[float] | Scores | None, count: int) -> Scores:
    return np.ones(count, dtype=np.float32) if values is None else np.asarray(values, dtype=np.float32)
