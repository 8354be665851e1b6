"""Batches of unlabelled photographs with masks: reproducible by position, exact under several processes."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from lexiseg.data.mask_views import TwoViews, Views
from lexiseg.data.resuming import PositionedStream, ResumingDataModule, stack_images
from lexiseg.data.unlabelled import MaskedDataset
from lexiseg.errors import DataError
from lexiseg.progress import with_progress
from lexiseg.types import MaskBatch

CHECKED = 64
"""How many images a check before training looks at."""

NamedViews = tuple[Views, str]


class ViewStream(PositionedStream[NamedViews]):
    """Two views of each photograph, and its masks in their window.

    Args:
        dataset: What to draw from.
        views: How the views are drawn.
        seed: Of the augmentation.
    """

    def __init__(self, *, dataset: MaskedDataset, views: TwoViews, seed: int) -> None:
        super().__init__(size=len(dataset), seed=seed)
        self.dataset, self.views = dataset, views

    def draw(self, index: int, rng: np.random.Generator) -> NamedViews:
        """The views of one photograph."""
        item = self.dataset[index]
        return self.views(item.image, item.masks, rng), item.name


class MaskDataModule(ResumingDataModule):
    """Training stream of photographs with masks; there is no validation set, because nothing is labelled.

    Args:
        train: Photographs and masks.
        views: How a photograph becomes two views; None: as published.
        batch_size: Photographs per process and step; the published run takes 48 over all processes.
        num_workers: Loader processes per training process; the batches do not depend on it.
        seed: Of the order and the augmentation.
        root: Where the data lies. Nothing is read from here: configurations keep it for one override.

    Raises:
        ConfigError: A size below 1 or a negative number of workers.
    """

    def __init__(
        self,
        *,
        train: MaskedDataset,
        views: TwoViews | None = None,
        batch_size: int = 48,
        num_workers: int = 2,
        seed: int = 0,
        root: str | Path | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.train, self.views, self.root = train, views or TwoViews(), root

    def train_dataloader(self) -> DataLoader[NamedViews]:
        """An endless loader of `MaskBatch` from ``start_position`` on."""
        stream = ViewStream(dataset=self.train, views=self.views, seed=self.seed)
        return self.loader(stream, self.training_sampler(len(self.train)), self.batch_size, collate_views)

    def check_masks(self) -> int:
        """Look at a few images all over the data set before the first step; a run without masks learns nothing.

        Images without a mask stay in the stream and add nothing to the loss; a warning counts them.

        Returns:
            How many of the images looked at have no mask.

        Raises:
            DataError: None of them has one, or one cannot be read.
        """
        looked_at = np.unique(np.linspace(0, len(self.train) - 1, CHECKED).astype(np.int64)).tolist()
        items = map(self.train.__getitem__, with_progress(looked_at, "checking masks", len(looked_at)))
        empty = [item.name for item in items if not len(item.masks)]
        if len(empty) == len(looked_at):
            raise DataError(
                f"none of {len(looked_at)} images looked at has a mask ({', '.join(empty[:4])}); expected "
                "class-agnostic masks to learn from: make them first, or check where they are read from"
            )
        if empty:
            warnings.warn(
                f"{len(empty)} of {len(looked_at)} images looked at have no mask ({', '.join(empty[:4])}); "
                "they stay in the stream and add nothing to the loss",
                stacklevel=2,
            )
        return len(empty)


def collate_views(samples: Sequence[NamedViews]) -> MaskBatch:
    """Stack views of one size; the masks follow one another, image by image."""
    counts = torch.tensor([len(views.masks) for views, _ in samples])
    return MaskBatch(
        weak=stack_images([views.weak for views, _ in samples]),
        strong=stack_images([views.strong for views, _ in samples]),
        masks=torch.from_numpy(np.concatenate([views.masks for views, _ in samples])),
        image_of_mask=torch.repeat_interleave(torch.arange(len(samples)), counts),
        names=tuple(name for _, name in samples),
    )
