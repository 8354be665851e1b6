"""A label map cut into pieces that hang together, all classes in one pass."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Pieces:
    """What a label map was cut into.

    Attributes:
        ids: ``(H, W)`` int64, 1 to N in the order of their first pixels, 0 for none.
        classes: ``(N,)`` int64 class of each.
    """

    ids: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]

    @property
    def areas(self) -> npt.NDArray[np.int64]:
        """``(N,)`` pixels of each."""
        return np.bincount(self.ids.ravel(), minlength=len(self.classes) + 1)[1:]

    def means(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """``(N,)`` mean of ``(H, W)`` values over each."""
        sums = np.bincount(self.ids.ravel(), weights=values.ravel(), minlength=len(self.classes) + 1)[1:]
        return sums / self.areas


def connected_pieces(
    labels: npt.NDArray[np.integer[Any]], *, whole: Collection[int] = (), nothing: Collection[int] = ()
) -> Pieces:
    """Each piece of a class that hangs together by shared edges of pixels; things of one class that touch are one.

    Args:
        labels: ``(H, W)`` class ids from 0; none is special.
        whole: Classes whose pixels are one piece wherever they are.
        nothing: Classes whose pixels belong to no piece.
    """
    from skimage.measure import label  # takes a while to import, and few need it

    if not labels.size:
        return Pieces(np.zeros(labels.shape, dtype=np.int64), np.zeros(0, dtype=np.int64))
    # scikit-image joins equal values, so that one pass does for all classes; as -1 occurs nowhere, nothing is left out.
    ids = np.asarray(label(labels.astype(np.int64), background=-1, connectivity=1)).astype(np.int64)
    classes = np.zeros(int(ids.max()), dtype=np.int64)
    classes[ids.ravel() - 1] = labels.ravel()
    leader = np.arange(len(classes))
    _, first, of_class = np.unique(classes, return_index=True, return_inverse=True)
    joined = np.isin(classes, list(whole))
    leader[joined] = first[of_class[joined]]
    leads = (leader == np.arange(len(classes))) & ~np.isin(classes, list(nothing))
    numbers = np.where(leads, np.cumsum(leads), 0)[leader]
    return Pieces(numbers[ids - 1], classes[leads])
