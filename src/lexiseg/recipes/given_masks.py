"""Masks for one photograph after another: a folder of mask files in either form, or superpixels made on the spot."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.data.io import read_masks
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.recipes.photographs import Photograph

SUPERPIXELS = "superpixels"

REGIONS = 48
"""Where masks overlap the smaller one decides, so of several partitions only the finest would count."""

_MOST_BYTES = 2**31
"""Masks of one photograph, a byte a pixel."""


class GivenMasks:
    """Class-agnostic masks for one photograph after another.

    Args:
        place: A folder, or ``superpixels``.

    Raises:
        ConfigError: Neither.
    """

    def __init__(self, place: str | Path) -> None:
        self.folder = None if str(place) == SUPERPIXELS else Path(place)
        if self.folder is not None and not self.folder.is_dir():
            raise ConfigError(
                f"--masks: expected a folder holding STEM.png per photograph, or what `lexiseg masks build` wrote, or "
                f"{SUPERPIXELS}; got {place}"
            )

    def read(self, photograph: Photograph, root: Path | None = None) -> tuple[npt.NDArray[np.bool_], str]:
        """Masks ``(M, H, W)`` of a photograph, and where they came from.

        Args:
            photograph: Of any size.
            root: The folder that a folder of built masks mirrors; None: the photograph's own.

        Raises:
            DataError: There are none, they belong to another photograph, or they are too many for its size.
        """
        size = (photograph.pixels.shape[0], photograph.pixels.shape[1])
        if self.folder is None:
            from lexiseg.masks.superpixels import Superpixels  # scikit-image, for those who ask for them

            return mask_arrays(Superpixels(regions=(REGIONS,))(photograph.pixels), SUPERPIXELS), SUPERPIXELS
        store = MaskStore(self.folder, root or photograph.path.parent)
        ours, listed = store.path(photograph.path), store.find(photograph.path)
        ids = self.folder / f"{photograph.stem}.png"
        # A PNG photograph may lie in the folder itself, and so may a result of this command, called STEM.json.
        own = photograph.path.is_file() and ids.is_file() and ids.samefile(photograph.path)
        if ids.is_file() and listed != ours and not own:
            return read_masks(ids, size), str(ids)
        if listed is None:
            raise DataError(
                f"no file at {ids}; check the path. Nor is there {ours.name}, which `lexiseg masks build` would write"
            )
        return mask_arrays(store.read(photograph.path, size), str(listed)), str(listed)


def mask_arrays(masks: MaskSet, source: str) -> npt.NDArray[np.bool_]:
    """``(M, H, W)`` bool at the photograph's size.

    Raises:
        DataError: They would not fit the memory.
    """
    height, width = masks.size
    if len(masks) * height * width > _MOST_BYTES:
        raise DataError(
            f"{source}: {len(masks)} masks of {height}x{width} pixels take more than {_MOST_BYTES // 2**30} GiB; give "
            "fewer masks, or a smaller photograph"
        )
    return masks.arrays()
