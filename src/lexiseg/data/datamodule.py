"""Batches for training and validation: reproducible by position, exact under several processes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from lexiseg.data.captioned_regions import CaptionedRegions
from lexiseg.data.resuming import (
    MOST_SAMPLES,
    PositionedStream,
    ResumingDataModule,
    require_count,
    stack_images,
)
from lexiseg.data.sampler import ShardSampler
from lexiseg.data.scan import (
    LabelScan,
    WithoutClasses,
    require_seen_classes,
    scan_labels,
    warn_absent_classes,
)
from lexiseg.data.schema import LabelSchema
from lexiseg.data.splits import seen_label_map
from lexiseg.data.transforms import Transform
from lexiseg.errors import ConfigError, DataError
from lexiseg.label_codes import LabelMap, codes_of, label_codes
from lexiseg.segments import NO_SEGMENT, Segments
from lexiseg.types import ClassSplit, Sample, SegBatch, SegmentationDataset

_ANY_CLASS: LabelMap = np.zeros(1, dtype=np.uint8)
"""Look-up table of labels for masks without names, which are all of class 0."""


class TrainingStream(PositionedStream[Sample]):
    """Training samples: unseen labels hidden, then augmented.

    Labels are hidden before the crop is chosen, so that no unseen label steers what training sees; the published
    pipeline hides them after, in the model.

    Args:
        dataset: What to draw from.
        table: Look-up table of labels that training may see; see `seen_label_map`.
        transform: Training transforms; None for none.
        seed: Of the augmentation.
        fixed: Augment each image the same way every time.
    """

    def __init__(
        self,
        *,
        dataset: SegmentationDataset,
        table: LabelMap,
        transform: Transform | None,
        seed: int,
        fixed: bool = False,
    ) -> None:
        super().__init__(size=len(dataset), seed=seed, fixed=fixed)
        self.dataset, self.table, self.transform = dataset, table, transform

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """One augmented sample; all have words where those of captions are learnt from."""
        sample = self._drawn(index, rng)
        return self.dataset.told(sample) if isinstance(self.dataset, CaptionedRegions) else sample

    def _drawn(self, index: int, rng: np.random.Generator) -> Sample:
        sample = self.dataset[index]
        if sample.segments is not None and sample.captions is not None:
            return self._with_captions(sample, sample.segments, sample.captions, rng)
        if sample.segments is not None:
            return self._with_segments(sample, sample.segments, rng)
        image, label = self._transformed(sample.image, self.table[sample.label], rng)
        return Sample(image, label, sample.name)

    def _with_segments(self, sample: Sample, segments: Segments, rng: np.random.Generator) -> Sample:
        """The map of segments takes the label map's way, without hidden ones, and labels follow from it.

        A transform that looks at classes, as the bound on the largest one of a crop does, sees segments here.
        """
        hidden = segments.label(self.table) == codes_of(self.table).ignore
        image, ids = self._transformed(sample.image, np.where(hidden, NO_SEGMENT, segments.ids), rng)
        moved = segments.at(ids.astype(np.uint16, copy=False))
        return Sample(image, moved.label(self.table), sample.name, moved.targets(self.table))

    def _with_captions(
        self,
        sample: Sample,
        segments: Segments,
        captions: tuple[tuple[int, ...], ...],
        rng: np.random.Generator,
    ) -> Sample:
        """One of the captions, and the map of masks on the label map's way; nothing of it bears a class."""
        said = captions[int(rng.integers(len(captions)))] if captions else ()
        image, ids = self._transformed(sample.image, segments.ids, rng)
        shown = segments.at(ids.astype(np.uint16, copy=False)).targets(_ANY_CLASS)
        nothing = np.full(ids.shape, codes_of(self.table).ignore, dtype=self.table.dtype)
        return Sample(image, nothing, sample.name, shown, (said,))

    def _transformed(
        self, image: npt.NDArray[np.uint8], ids: LabelMap, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], LabelMap]:
        return (image, ids) if self.transform is None else self.transform(image, ids, rng)


class SegmentationDataModule(ResumingDataModule):
    """Training stream and validation set of one split.

    The training stream resumes as `ResumingDataModule` says.

    Args:
        train: Training data set, labels of all classes.
        val: Validation data set with the same classes.
        split: Seen and unseen classes.
        train_transform: See `lexiseg.data.transforms.train_recipe`; None: samples as they are.
        batch_size: Samples per process and step.
        val_batch_size: More than 1 needs validation images of one size.
        num_workers: Loader processes per training process; the batches do not depend on it.
        seed: Of the order and the augmentation.
        root: Where the data lies. Nothing is read from here: configurations keep it so that one override
            (``data.root=``) moves both data sets.
        cache_dir: Folder that remembers scans of label maps; None: nothing is remembered.
        overfit: Draw from the first so many training images alone, each augmented the same way every time, to see
            whether a model can learn them by heart; 0: from all.

    Raises:
        ConfigError: Classes of the data sets and the split differ, or a size is not positive.
    """

    def __init__(  # noqa: PLR0913  (one flat key per thing a user overrides)
        self,
        *,
        train: SegmentationDataset,
        val: SegmentationDataset,
        split: ClassSplit,
        train_transform: Transform | None = None,
        batch_size: int = 4,
        val_batch_size: int = 1,
        num_workers: int = 2,
        seed: int = 0,
        root: str | Path | None = None,
        cache_dir: str | Path | None = None,
        overfit: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        for name, dataset in (("training", train), ("validation", val)):
            if tuple(dataset.classes) != split.classes:
                raise ConfigError(
                    f"the {name} data set has the classes {', '.join(dataset.classes)}; split '{split.name}' "
                    f"was built for {', '.join(split.classes)}; build the split from this data set's classes"
                )
        require_count("val_batch_size", val_batch_size, 1, MOST_SAMPLES)
        if overfit < 0:
            raise ConfigError(f"overfit {overfit}: expected a number of images, or 0 for all")
        self.train, self.val, self.split = train, val, split
        self.overfit = overfit
        self.train_transform = train_transform
        self.val_batch_size = val_batch_size
        self.root, self.cache_dir = root, cache_dir
        self._kept: SegmentationDataset | None = None

    @property
    def train_set(self) -> SegmentationDataset:
        """What training draws from: ``train``, less images with unseen objects if the split excludes them."""
        if self._kept is None:
            self._kept = self._without_unseen()
        return self._kept

    @property
    def training_table(self) -> LabelMap:
        """Which labels training may see, under the full data set's ids; see `seen_label_map`."""
        table = seen_label_map(self.split)
        table[list(self._exempt)] = label_codes(len(self.split.classes)).ignore
        return table

    def train_dataloader(self) -> DataLoader[Sample]:
        """An endless loader of augmented batches from ``start_position`` on."""
        dataset = self.train_set
        stream = TrainingStream(
            dataset=dataset,
            table=self.training_table,
            transform=self.train_transform,
            seed=self.seed,
            fixed=self.overfit > 0,
        )
        size = min(self.overfit or len(dataset), len(dataset))
        return self.loader(stream, self.training_sampler(size), self.batch_size, collate)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Every validation sample once over all processes, unchanged, with the labels of all classes."""
        rank, world = self.place
        sampler = ShardSampler(size=len(self.val), rank=rank, world=world)
        return self.loader(self.val, sampler, self.val_batch_size, collate)  # type: ignore[arg-type]

    def check_training_labels(self) -> LabelScan | None:
        """Look at every label map before the first step; generated data sets are sampled.

        Returns:
            The scan of the training set; of one with captions, that of what is labelled beside them, None where nothing is. Of
            such a one no class needs a pixel.

        Raises:
            DataError: A seen class without a training pixel, or a label map that cannot be used.
        """
        dataset = self.train_set
        labelled = dataset.labelled if isinstance(dataset, CaptionedRegions) else dataset
        scan = None
        if isinstance(dataset, WithoutClasses):
            scan = dataset.scan
        elif labelled is not None:
            scan = scan_labels(labelled, cache_dir=self.cache_dir, description="checking training labels")
        if scan is not None and not isinstance(dataset, CaptionedRegions):
            require_seen_classes(scan, self.split, exempt=self._exempt)
        val = scan_labels(self.val, cache_dir=self.cache_dir, description="checking validation labels")
        warn_absent_classes(val, self.split)
        return scan

    @property
    def _exempt(self) -> tuple[int, ...]:
        """Class ids that have no words: a background found by threshold takes no part in training."""
        schema = getattr(self.train, "schema", None)
        found = schema.threshold_class if isinstance(schema, LabelSchema) else None
        return () if found is None else (found,)

    def _without_unseen(self) -> SegmentationDataset:
        if self.split.unseen_pixels == "shown" or not self.split.unseen:
            return self.train
        if isinstance(self.train, CaptionedRegions):
            raise ConfigError(
                "split.unseen_pixels=excluded: nobody knows what photographs without labels show; set split.unseen_pixels=shown"
            )
        scan = scan_labels(self.train, cache_dir=self.cache_dir, description="leaving out unseen classes")
        if not scan.pixels[list(self.split.unseen_ids)].any():
            return self.train
        return WithoutClasses(dataset=self.train, hidden_ids=self.split.unseen_ids, scan=scan)


def collate(samples: Sequence[Sample]) -> SegBatch:
    """Stack samples of one size.

    Raises:
        DataError: The sizes differ.
    """
    sizes = {sample.label.shape for sample in samples}
    if len(sizes) > 1:
        shown = ", ".join(f"{s.name} {s.label.shape[0]}x{s.label.shape[1]}" for s in samples[:4])
        raise DataError(
            f"a batch needs images of one size, came {shown} (height x width); set data.val_batch_size=1, or "
            "in training a train_transform that crops and pads to one size"
        )
    images = stack_images([sample.image for sample in samples])
    labels = torch.from_numpy(np.stack([sample.label for sample in samples]))
    segments = tuple(sample.segments.tensors() for sample in samples if sample.segments is not None)
    said = [sample.captions[0] for sample in samples if sample.captions is not None]
    words = tuple(torch.tensor(each, dtype=torch.long) for each in said)
    return SegBatch(images, labels.long(), tuple(sample.name for sample in samples), segments, words)
