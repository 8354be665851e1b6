"""Masks of a folder of photographs: which photographs, how many processes, what became of them, a picture to look at."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lexiseg.data.image_folder import find_images
from lexiseg.data.io import read_image
from lexiseg.drawing.grid import panel_size
from lexiseg.drawing.mask_sheet import mask_sheet
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.build import MaskTask, Outcome, Status, build_masks
from lexiseg.masks.provider import Picture
from lexiseg.masks.store import MaskStore
from lexiseg.models.mask_providers import find_provider
from lexiseg.recipes.mask_providers import PROVIDERS, make_provider
from lexiseg.storage import is_there, require_folder

_MOST_WORKERS = 16
_SHOWN_SIDE = 640
_NAMED = 5
"""How many photographs a sentence names before it only counts."""


@dataclass(frozen=True)
class MaskBuild:
    """Which masks to make, of which photographs.

    Attributes:
        images: Photographs, or folders with all their subfolders.
        output: Where masks go; None for beside each photograph.
        provider: A key of :data:`~lexiseg.recipes.mask_providers.PROVIDERS`.
        settings: Of the provider, those that differ from its defaults.
        model: Weights of a provider that needs a model, by hub name or folder; None for its own choice.
        device: Where a model runs.
        workers: Processes; None for as many as suit the provider.
        overwrite: Replace masks made with other settings, or of another version of the photograph.
    """

    images: Sequence[Path]
    output: Path | None = None
    provider: str = "superpixels"
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    device: str = "auto"
    workers: int | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class MaskSummary:
    """What became of all photographs.

    Attributes:
        outcomes: One each, in the order of completion.
        things: What was made of them.
    """

    outcomes: Sequence[Outcome]
    things: str = "masks"

    def of(self, *statuses: Status) -> list[Outcome]:
        """Those that ended in one of these ways."""
        return [outcome for outcome in self.outcomes if outcome.status in statuses]

    @property
    def ready(self) -> list[Outcome]:
        """Photographs that have their masks now."""
        return self.of("made", "kept")

    @property
    def bare(self) -> list[Outcome]:
        """Photographs in which no mask was found."""
        return [outcome for outcome in self.ready if not outcome.masks]

    def facts(self) -> list[str]:
        """How many photographs ended how, in sentences."""
        told = [
            f"{len(self.outcomes)} photographs: {len(self.of('made'))} made, {len(self.of('kept'))} already there, "
            f"{len(self.of('failed'))} skipped"
        ]
        counts = [outcome.masks for outcome in self.ready]
        if counts:
            told.append(
                f"{self.things} each: mean {np.mean(counts):.1f}, least {min(counts)}, most {max(counts)}"
            )
        if self.dropped:
            told.append(f"{self.dropped} empty masks left out")
        return told

    def worries(self) -> dict[str, str]:
        """What deserves a second look: its kind, with the number of photographs, and which these are."""
        told, differs = {}, self.of("differs")
        if self.bare:
            told[f"without any {self.things.removesuffix('s')} ({len(self.bare)})"] = _some(self.bare)
        if differs:
            told[f"left as they are ({len(differs)})"] = (
                f"{_some(differs)}: {differs[0].reason}; --overwrite makes them anew"
            )
        return told

    @property
    def dropped(self) -> int:
        """Empty masks that were left out, of all photographs together."""
        return sum(outcome.dropped for outcome in self.ready)


def start_masks(build: MaskBuild) -> tuple[int, Iterator[Outcome]]:
    """Check everything, load the provider; then masks are made while the outcomes are taken.

    Returns:
        How many photographs there are, and what becomes of each.

    Raises:
        ConfigError: A setting that cannot be, or the output is a file.
        DataError: A place that does not exist, or a folder without images.
        LexisegError: The model cannot be loaded, or the output not be written to.
    """
    tasks = mask_tasks(build.images, build.output)
    if build.output is not None:
        require_folder(build.output, "--output")
    workers = min(count_workers(build.provider, build.workers), len(tasks))
    provider = make_provider(build.provider, build.settings, model=build.model, device=build.device)
    outcomes = build_masks(tasks, provider, read_image, workers=workers, overwrite=build.overwrite)
    return len(tasks), outcomes


def mask_tasks(places: Sequence[Path], output: Path | None) -> list[MaskTask]:
    """Each image once, with the store of the folder that it was found through.

    Raises:
        ConfigError: The output is a file.
        DataError: A place that does not exist, or a folder without images.
    """
    if output is not None and is_there(output):
        raise ConfigError(f"output: expected a folder, {output} is a file")
    found: dict[Path, MaskTask] = {}
    for place in places:
        if not place.exists():
            raise DataError(f"no file or folder at {place}; check the path")
        root = place if place.is_dir() else place.parent
        store = MaskStore(output, root)
        for image in find_images(place) if place.is_dir() else (place,):
            found.setdefault(image, MaskTask(image, store))
    return list(found.values())


def count_workers(provider: str, asked: int | None) -> int:
    """Processes to use: as many as processors, or one for a model, which uses them all by itself.

    Raises:
        ConfigError: No such provider, less than one process, or several for a model.
    """
    needs_model = find_provider(provider, PROVIDERS).model is not None
    if asked is not None and asked < 1:
        raise ConfigError(f"workers: expected at least 1, got {asked}")
    if not needs_model:
        return int(asked or min(os.cpu_count() or 1, _MOST_WORKERS))
    if asked not in (None, 1):
        raise ConfigError(
            f"workers={asked}: {provider} works in one process, its model using the whole device; leave workers out"
        )
    return 1


def draw_masks(task: MaskTask, image: Picture) -> Image.Image:
    """A photograph, then its masks in layers of masks that do not overlap.

    Args:
        task: The photograph's file, with the store that holds its masks.
        image: ``(H, W, 3)`` uint8 RGB.

    Raises:
        DataError: There are no masks, or they are another photograph's.
    """
    masks = task.store.read(task.image, (image.shape[0], image.shape[1]))
    height, width = panel_size(image.shape[0], image.shape[1], _SHOWN_SIDE)
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    return mask_sheet(small, masks.arrays((height, width)), title=f"{task.image.name}: {len(masks)} masks")


def _some(outcomes: Sequence[Outcome]) -> str:
    names = [str(outcome.image) for outcome in outcomes]
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
