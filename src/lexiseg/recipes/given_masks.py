"""Masks for one photograph after another: a folder of mask files in either form, or a provider's, made on the spot."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lexiseg.data.io import read_masks
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.recipes.mask_providers import PROVIDERS, make_provider
from lexiseg.recipes.photographs import Photograph

if TYPE_CHECKING:
    from lexiseg.masks.provider import MaskProvider

SUPERPIXELS = "superpixels"

ON_THE_SPOT = tuple(name for name, entry in PROVIDERS.items() if entry.model != "")
"""Providers that :func:`on_the_spot` makes: those whose weights have to be named can only fill a folder."""

REGIONS = 48
"""Of superpixels: where masks overlap the smaller one decides, so of several partitions only the finest would count."""

_MOST_BYTES = 2**31
"""Masks of one photograph, a byte a pixel."""


class GivenMasks:
    """Class-agnostic masks for one photograph after another.

    Args:
        place: A folder, or one of :data:`ON_THE_SPOT`, which is loaded for the first photograph, with its own settings.
        device: Where a provider's model runs.

    Raises:
        ConfigError: Neither.
    """

    def __init__(self, place: str | Path, device: str = "auto") -> None:
        self.folder = None if str(place) in ON_THE_SPOT else Path(place)
        self._name, self._device = str(place), device
        if self.folder is not None and not self.folder.is_dir():
            raise ConfigError(
                f"--masks: expected a folder holding STEM.png per photograph, or what `lexiseg masks build` wrote, or one of "
                f"{', '.join(ON_THE_SPOT)}; got {place}"
            )

    @cached_property
    def _provider(self) -> "MaskProvider":
        return on_the_spot(self._name, self._device)

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
            return mask_arrays(self._provider(photograph.pixels), self._name), self._name
        store = MaskStore(self.folder, root or photograph.path.parent)
        file, ids = self.file(photograph.path, root, photograph.stem), self.folder / f"{photograph.stem}.png"
        if file is None:
            ours = store.path(photograph.path).name
            raise DataError(
                f"no file at {ids}; check the path. Nor is there {ours}, which `lexiseg masks build` would write"
            )
        if file == ids:
            return read_masks(ids, size), str(ids)
        return mask_arrays(store.read(photograph.path, size), str(file)), str(file)

    def file(self, path: Path, root: Path | None = None, stem: str | None = None) -> Path | None:
        """The file that holds the masks of a photograph; None where there is none, or a provider makes them.

        Args:
            path: Of the photograph.
            root: As of :meth:`read`.
            stem: Of ``STEM.png``, where it is not the photograph's own.
        """
        if self.folder is None:
            return None
        store = MaskStore(self.folder, root or path.parent)
        ours, listed = store.path(path), store.find(path)
        ids = self.folder / f"{stem or path.stem}.png"
        # A PNG photograph may lie in the folder itself, and so may a result of this command, called STEM.json.
        own = path.is_file() and ids.is_file() and ids.samefile(path)
        return ids if ids.is_file() and listed != ours and not own else listed


def on_the_spot(name: str, device: str) -> "MaskProvider":
    """A provider with its own settings and weights, for one photograph after another; superpixels in one partition.

    Raises:
        ConfigError: A provider that has no weights of its own.
        LexisegError: The model cannot be loaded.
    """
    return make_provider(name, {"regions": (REGIONS,)} if name == SUPERPIXELS else {}, device=device)


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
