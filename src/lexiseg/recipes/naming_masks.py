"""The masks of ``eval masks=…`` and ``benchmark masks=…``: those of the labels, a provider's, or a folder's."""

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lexiseg.errors import ConfigError
from lexiseg.evaluation.naming import GROUND_TRUTH, GroundTruthMasks, MaskSource
from lexiseg.inference.given_masks import ON_THE_SPOT, GivenMasks, mask_arrays, on_the_spot
from lexiseg.masks.provider import MaskProvider
from lexiseg.recipes.photographs import Photograph
from lexiseg.storage import leads_somewhere
from lexiseg.types import Sample, SegmentationDataset

Masks = str | None
"""``ground_truth``, the name of a provider, or a folder; None: the segmenter finds its own."""

_SUFFIXES = (".png", ".json")
"""Of mask files in either form."""


class MadeMasks:
    """What a provider makes of each photograph, on the spot.

    Args:
        provider: Ready to run.
    """

    def __init__(self, provider: MaskProvider) -> None:
        self._provider = provider

    @property
    def told(self) -> Mapping[str, Any]:
        """The provider and its settings."""
        return {"source": self._provider.name, "settings": dict(self._provider.settings)}

    def masks(self, dataset: SegmentationDataset, index: int, sample: Sample) -> npt.NDArray[np.bool_]:
        """``(M, H, W)``; they may overlap, and need not cover the photograph."""
        del dataset, index
        return mask_arrays(self._provider(sample.image), f"{self._provider.name} of {sample.name}")


class FolderMasks:
    """Mask files of a folder, by the photographs' file names; a data set without files has the names of its samples.

    Args:
        folder: As `GivenMasks` takes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._given = folder, GivenMasks(folder)
        self._of: SegmentationDataset | None = None
        self._root: Path | None = None

    @cached_property
    def told(self) -> Mapping[str, Any]:
        """The folder and the state of its mask files: masks that are made anew have a score of their own."""
        return {"source": str(self._folder), "files": _state(self._folder)}

    def masks(self, dataset: SegmentationDataset, index: int, sample: Sample) -> npt.NDArray[np.bool_]:
        """``(M, H, W)`` of the file that belongs to the photograph.

        Raises:
            DataError: There is none, or it belongs to a photograph of another size.
        """
        pairs = getattr(dataset, "pairs", None)
        path = Path(f"{sample.name}.png") if pairs is None else pairs[index].image
        if dataset is not self._of:  # the common folder of all photographs is looked for once
            self._of = dataset
            self._root = (
                None if pairs is None else Path(os.path.commonpath([pair.image.parent for pair in pairs]))
            )
        return self._given.read(Photograph(path, path.stem, sample.image), self._root)[0]


def _state(folder: Path) -> str:
    """Hash of the names, sizes and times of all mask files below a folder; their contents are not read."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            state = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def require_masks(masks: object) -> None:
    """Refuse what names no masks, before any data are opened.

    Raises:
        ConfigError: Neither null, ground_truth, a provider that has its weights, nor a folder.
    """
    known = [GROUND_TRUTH, *ON_THE_SPOT]
    if masks is None or (
        isinstance(masks, str)
        and (masks in known or (masks and leads_somewhere(masks) and Path(masks).is_dir()))
    ):
        return
    raise ConfigError(
        f"masks: expected null, {', '.join(known)}, or a folder that holds STEM.png per photograph or what `lexiseg masks "
        f"build` wrote; got {masks!r}"
    )


def open_masks(masks: Masks, device: str = "auto") -> MaskSource | None:
    """The masks that a run is given.

    Args:
        masks: See :data:`Masks`. A provider has its own settings and weights; for others, build a folder of masks.
        device: Where a provider's model runs.

    Raises:
        ConfigError: None of these, or a provider's model that cannot be loaded.
    """
    require_masks(masks)
    if masks is None:
        return None
    if masks == GROUND_TRUTH:
        return GroundTruthMasks()
    if masks in ON_THE_SPOT:
        return MadeMasks(on_the_spot(masks, device))
    return FolderMasks(Path(masks))
