"""Masks cut from a label map: what is left of it when the names are thrown away."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lexiseg.label_codes import LabelMap, codes_of

Regions = Literal["component", "class"]


@dataclass(frozen=True, eq=False)
class RegionMap:
    """Masks that do not overlap, as one map of ids.

    Attributes:
        ids: ``(H, W)`` int64, 1 to ``count``, each somewhere; 0 where there is no mask.
        count: N.
    """

    ids: npt.NDArray[np.int64]
    count: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.ids.shape[0], self.ids.shape[1]

    def __len__(self) -> int:
        return self.count

    def sample(
        self, rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.bool_]:
        """``(N, h, w)`` at h rows and w columns, in any order."""
        return self.ids[rows[:, None], columns] == np.arange(1, self.count + 1)[:, None, None]


def label_regions(label: LabelMap, regions: Regions = "component") -> RegionMap:
    """Cut a label map into masks that together cover every labelled pixel once.

    Args:
        label: ``(H, W)`` class ids; ignored and unlabelled pixels belong to no mask.
        regions: ``component``: each connected piece of a class, by shared edges; an object that another one cuts in
            two gives two masks, touching ones of a class give one. ``class``: all pixels of a class.

    Returns:
        The masks, by ascending class id.
    """
    ids = np.zeros(label.shape, dtype=np.int64)
    count = 0
    codes = codes_of(label)
    for index in np.unique(label).tolist():
        if index in (codes.ignore, codes.unlabelled):
            continue
        region = label == index
        pieces, found = (region, 1) if regions == "class" else ndimage.label(region)
        ids[region] = count + pieces[region]
        count += found
    return RegionMap(ids, count)
