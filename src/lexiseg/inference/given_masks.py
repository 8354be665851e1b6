"""Masks as they are given: arrays, a folder of mask files in either form, or a provider, whose are made on the spot."""

from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lexiseg.data.io import ImageSource, read_masks
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.devices import pick_device
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.provider import MaskProvider, Picture
from lexiseg.masks.store import MaskStore
from lexiseg.models.mask_providers import MODEL_PROVIDERS, build_provider

Masks = npt.NDArray[np.bool_] | MaskProvider | str | Path
"""``(M, H, W)`` class-agnostic masks; what makes them; or where they are, as :class:`GivenMasks` takes it."""

SUPERPIXELS = "superpixels"

ON_THE_SPOT = tuple(MODEL_PROVIDERS)
"""Providers that :func:`on_the_spot` makes: those whose weights have to be named can only fill a folder."""

REGIONS = 48
"""Of superpixels: where masks overlap the smaller one decides, so of several partitions only the finest would count."""

_MOST_BYTES = 2**31
"""Masks of one photograph, a byte a pixel."""


class Photograph(Protocol):
    """A photograph that could be read: its file, how its results are called, and ``(H, W, 3)`` uint8 RGB."""

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def stem(self) -> str: ...  # noqa: D102

    @property
    def pixels(self) -> Picture: ...  # noqa: D102


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
    def _provider(self) -> MaskProvider:
        return on_the_spot(self._name, self._device)

    def read(self, photograph: Photograph, root: Path | None = None) -> tuple[npt.NDArray[np.bool_], str]:
        """Masks ``(M, H, W)`` of a photograph, and where they came from.

        Args:
            photograph: Of any size.
            root: The folder that a folder of built masks mirrors; None: the photograph's own.

        Raises:
            DataError: There are none, they belong to another photograph, or they are too many for its size.
        """
        if self.folder is None:
            return self.made(photograph.pixels), self._name
        return self.found(photograph.path, photograph.pixels, root, photograph.stem)

    def made(self, picture: Picture) -> npt.NDArray[np.bool_]:
        """Masks of a picture that need not come from a file, by the provider that was named.

        Raises:
            ConfigError: A folder was named.
            DataError: They are too many for its size.
        """
        if self.folder is not None:
            raise ConfigError(
                f"the masks in {self.folder} are found by a photograph's path; give the path in place of its pixels, or its "
                "masks as an array"
            )
        return mask_arrays(self._provider(picture), self._name)

    def found(
        self, path: Path, picture: Picture, root: Path | None = None, stem: str | None = None
    ) -> tuple[npt.NDArray[np.bool_], str]:
        """Masks of a photograph in the folder that was named, and their file; arguments and errors as of :meth:`read`."""
        size, folder = (picture.shape[0], picture.shape[1]), self.folder or Path()
        store = MaskStore(folder, root or path.parent)
        file, ids = self.file(path, root, stem), folder / f"{stem or path.stem}.png"
        if file is None:
            ours = store.path(path).name
            raise DataError(
                f"no file at {ids}; check the path. Nor is there {ours}, which `lexiseg masks build` would write"
            )
        if file == ids:
            return read_masks(ids, size), str(ids)
        return mask_arrays(store.read(path, size), str(file)), str(file)

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


class MaskDoor:
    """Whatever :data:`Masks` are to arrays; a provider that is named is loaded once.

    Args:
        device: Where its model runs.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._named: dict[str, GivenMasks] = {}

    def arrays(
        self, masks: Masks, picture: Picture, image: ImageSource | None = None
    ) -> npt.NDArray[np.bool_]:
        """``(M, H, W)`` bool.

        Args:
            masks: Of the photograph.
            picture: ``(H, W, 3)`` uint8 RGB.
            image: As the photograph came: by its path it is found in a folder.

        Raises:
            ConfigError: No masks, no such folder, or a photograph without a path for it.
            DataError: As :meth:`GivenMasks.read`.
            LexisegError: A model cannot be loaded.
        """
        if isinstance(masks, np.ndarray):
            return masks
        if isinstance(masks, str | Path):
            given = self._named.setdefault(str(masks), GivenMasks(masks, self._device))
            if given.folder is not None and isinstance(image, str | Path):
                return given.found(Path(image), picture)[0]
            return given.made(picture)
        if not callable(masks):
            raise ConfigError(
                f"masks: expected an (M, H, W) array, a folder, one of {', '.join(ON_THE_SPOT)}, or a provider; got "
                f"{type(masks).__name__}"
            )
        return mask_arrays(masks(picture), getattr(masks, "name", "masks"))


def on_the_spot(name: str, device: str) -> MaskProvider:
    """A provider with its own settings and weights, for one photograph after another; superpixels in one partition.

    Raises:
        ConfigError: A provider that has no weights of its own.
        LexisegError: The model cannot be loaded.
    """
    settings = {"regions": (REGIONS,)} if name == SUPERPIXELS else {}
    return build_provider(name, settings, device=lambda: pick_device(device))


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
