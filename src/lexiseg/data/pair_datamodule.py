"""Batches of regions with a word each: reproducible by position, exact under several processes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lexiseg.data.image_folder import find_images
from lexiseg.data.io import read_image
from lexiseg.data.resuming import PositionedStream, ResumingDataModule
from lexiseg.errors import DataError
from lexiseg.ops.region_crops import square_region
from lexiseg.progress import with_progress
from lexiseg.types import Color, PairBatch

_RATIOS = (3 / 4, 4 / 3)
"""Of a drawn part's sides, times those of the whole."""

_TRIES = 10
"""How often a part is drawn that does not fit, before the whole is taken."""


class NamedMasks(Protocol):
    """Masks of one photograph that bear a word each."""

    @property
    def words(self) -> tuple[str, ...]:
        """One per mask."""

    def chosen(self, indices: npt.NDArray[np.integer]) -> Any:
        """Some of them."""

    def arrays(self) -> npt.NDArray[np.bool_]:
        """``(N, H, W)``."""


class PairSource(Protocol):
    """Where the pairs of image files come from."""

    def find(self, image: Path) -> Path | None:
        """The file that holds an image's pairs; None if there is none."""

    def read(self, image: Path, size: tuple[int, int] | None = None) -> NamedMasks:
        """The pairs of an image of this height and width."""


class RegionPairs:
    """All pairs of a folder of photographs, read once to know them; masks are decoded where they are drawn.

    Args:
        images: The folder, searched with its subfolders.
        pairs: Finds and reads the files of `lexiseg masks pairs`.

    Attributes:
        places: Of each pair its photograph and its number in the photograph's file.
        words: All words, sorted.
        ids: Of each pair its word's place among them.

    Raises:
        DataError: No such folder, no pair in it, or a file that cannot be read or holds masks without words.
    """

    def __init__(self, *, images: Path, pairs: PairSource) -> None:
        self.source = pairs
        found = [image for image in find_images(images) if pairs.find(image) is not None]
        self.places: list[tuple[Path, int]] = []
        words: list[str] = []
        for image in with_progress(found, "reading pairs", len(found)):
            named = pairs.read(image)
            if not named.words and len(named.arrays()):
                raise DataError(
                    f"{pairs.find(image)}: masks without words; expected what `lexiseg masks pairs` writes"
                )
            self.places += [(image, number) for number in range(len(named.words))]
            words += named.words
        if not words:
            raise DataError(
                f"no pair of a region and a word for any photograph of {images}; make them first: `lexiseg masks pairs`"
            )
        self.words = tuple(sorted(set(words)))
        index = {word: number for number, word in enumerate(self.words)}
        self.ids = tuple(index[word] for word in words)

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """The photograph ``(H, W, 3)`` of a pair, and its region ``(H, W)``.

        Raises:
            DataError: One of them is damaged, or they do not belong together.
        """
        path, number = self.places[index]
        image = read_image(path)
        named = self.source.read(path, (image.shape[0], image.shape[1]))
        return image, named.chosen(np.array([number])).arrays()[0]


@dataclass(frozen=True)
class DrawnPair:
    """One pair as it is learnt from; see :class:`~lexiseg.types.PairBatch`."""

    region: Tensor
    inside: Tensor
    word: int
    name: str


class PairStream(PositionedStream[DrawnPair]):
    """Regions cut out as OVSeg cuts them, of which a random part is shown.

    Args:
        pairs: What to draw from.
        side: S, the tower's native size.
        colors: RGB mean and deviation in [0, 1] that the tower expects.
        least_share: Of a region's box that is shown, by area.
        seed: Of the parts.
    """

    def __init__(
        self, *, pairs: RegionPairs, side: int, colors: tuple[Color, Color], least_share: float, seed: int
    ) -> None:
        super().__init__(size=len(pairs), seed=seed)
        self.pairs, self.side, self.least_share = pairs, side, least_share
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) * 255 for values in colors)

    def draw(self, index: int, rng: np.random.Generator) -> DrawnPair:
        """One region."""
        image, mask = self.pairs.read(index)
        box = tuple(slice(int(place[0]), int(place[-1]) + 1) for place in map(np.flatnonzero, _hit(mask)))
        image, mask = image[box], mask[box]
        part = random_part((mask.shape[0], mask.shape[1]), rng, self.least_share)
        if mask[part].any():
            image, mask = image[part], mask[part]
        picture = (torch.from_numpy(image.copy()).permute(2, 0, 1) - self.mean) / self.std
        region, inside = square_region(picture, torch.from_numpy(mask.copy()), self.side)
        return DrawnPair(region, inside, self.pairs.ids[index], self.pairs.places[index][0].name)


class PairDataModule(ResumingDataModule):
    """Training stream of pairs; there is no validation set.

    Args:
        pairs: What to draw from.
        side: See :class:`PairStream`, like the next two.
        colors: See there.
        least_share: See there.
        batch_size: Pairs per process and step; they are negatives of each other, over all processes.
        num_workers: Loader processes per training process.
        seed: Of the order and the parts.
    """

    def __init__(
        self,
        *,
        pairs: RegionPairs,
        side: int,
        colors: tuple[Color, Color],
        least_share: float,
        batch_size: int,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.pairs = pairs
        self.stream = PairStream(pairs=pairs, side=side, colors=colors, least_share=least_share, seed=seed)

    def train_dataloader(self) -> DataLoader[DrawnPair]:
        """An endless loader of `PairBatch` from ``start_position`` on."""
        return self.loader(
            self.stream, self.training_sampler(len(self.pairs)), self.batch_size, collate_pairs
        )


def collate_pairs(drawn: Sequence[DrawnPair]) -> PairBatch:
    """One batch."""
    return PairBatch(
        regions=torch.stack([each.region for each in drawn]),
        masks=torch.stack([each.inside for each in drawn]),
        words=torch.tensor([each.word for each in drawn]),
        names=tuple(each.name for each in drawn),
    )


def random_part(size: tuple[int, int], rng: np.random.Generator, least_share: float) -> tuple[slice, slice]:
    """Rows and columns of a random part of a picture, as torchvision's random resized crop draws it.

    Its share of the area is uniform from ``least_share`` to 1, the ratio of its sides log-uniform from 3/4 to 4/3. Differs from
    torchvision in that ratios are of the picture's own sides, and in that the whole is taken where no part was found: regions
    are stretched to a square anyway.

    Args:
        size: Height and width.
        rng: The only source of randomness.
        least_share: See above.
    """
    height, width = size
    for _ in range(_TRIES):
        area = rng.uniform(least_share, 1.0)
        ratio = math.exp(rng.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
        rows, columns = (round(height * math.sqrt(area / ratio)), round(width * math.sqrt(area * ratio)))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = (int(rng.integers(0, free + 1)) for free in (height - rows, width - columns))
            return slice(top, top + rows), slice(left, left + columns)
    return slice(0, height), slice(0, width)


def _hit(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which rows and which columns a mask touches."""
    return np.asarray(mask.any(1)), np.asarray(mask.any(0))
