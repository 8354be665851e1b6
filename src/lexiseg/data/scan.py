"""One pass over a data set's label maps: which classes are there, in how many images and pixels."""

import logging
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.errors import DataError
from lexiseg.keys import some_names
from lexiseg.label_codes import EIGHT_BIT, LabelMap, label_codes
from lexiseg.progress import with_progress
from lexiseg.storage import write_atomically
from lexiseg.types import ClassSplit, Sample, SegmentationDataset

_log = logging.getLogger(__name__)

GENERATED_SAMPLE = 256
"""How many scenes of a generated data set a scan looks at."""


@dataclass(frozen=True)
class LabelScan:
    """Pixels per image and class id; the last column counts what is ignored.

    Attributes:
        counts: ``(N, C)`` int32 for the N images looked at. C is 256, or K + 1 of more than 254 classes.
        total: Images in the data set; more than N if only a sample was looked at.
    """

    counts: npt.NDArray[np.int32]
    total: int

    @property
    def scanned(self) -> int:
        """N, the images looked at."""
        return len(self.counts)

    @property
    def pixels(self) -> npt.NDArray[np.int64]:
        """``(C,)`` pixels per id over all images looked at."""
        return self.counts.sum(0, dtype=np.int64)

    @property
    def images(self) -> npt.NDArray[np.int64]:
        """``(C,)`` images that show each id."""
        return np.count_nonzero(self.counts, axis=0).astype(np.int64)

    @property
    def unlabelled(self) -> int:
        """Images without a single labelled pixel."""
        return int((self.counts[:, :-1].sum(1) == 0).sum())


def scan_labels(
    dataset: SegmentationDataset,
    *,
    cache_dir: str | Path | None = None,
    limit: int = GENERATED_SAMPLE,
    description: str = "reading label maps",
) -> LabelScan:
    """Count classes in every label map of a data set, remembering the answer on disk.

    A data set with a ``fingerprint()`` is scanned whole, and only once per fingerprint if there is a cache.
    One without (a generated data set) is sampled: its first ``limit`` scenes, never cached.

    Args:
        dataset: Any data set; ``read_label(index)`` is used if it has one, to leave photographs unread.
        cache_dir: Folder for remembered scans; None: nothing is written.
        limit: Scenes of a generated data set to look at.
        description: Shown beside the progress bar.

    Raises:
        DataError: A label map is missing, damaged, or holds ids outside the schema.
    """
    fingerprint = getattr(dataset, "fingerprint", None)
    total = len(dataset)
    if fingerprint is None:
        return _scan(dataset, range(min(limit, total)), total, description)
    cache = None if cache_dir is None else Path(cache_dir) / f"labels-{fingerprint()}.npz"
    if cache is not None and cache.exists():
        remembered = _load(cache, (total, _columns(dataset)))
        if remembered is not None:
            return remembered
    scan = _scan(dataset, range(total), total, description)
    if cache is not None:
        write_atomically(cache, lambda part: _save(part, scan.counts))
    return scan


def _save(part: Path, counts: npt.NDArray[np.int32]) -> None:
    with part.open("wb") as stream:  # given a path, numpy would add a suffix of its own
        np.savez_compressed(stream, counts=counts)


def _load(cache: Path, shape: tuple[int, int]) -> LabelScan | None:
    """A remembered scan, or None if its file is unusable and has to be made again."""
    try:
        with np.load(cache) as file:
            counts = file["counts"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return LabelScan(counts, shape[0]) if counts.shape == shape else None


def _scan(dataset: SegmentationDataset, indices: Sequence[int], total: int, description: str) -> LabelScan:
    counts = np.zeros((len(indices), _columns(dataset)), dtype=np.int32)
    for row, histogram in enumerate(with_progress(_histograms(dataset, indices), description, len(indices))):
        counts[row] = histogram
    return LabelScan(counts, total)


def _columns(dataset: SegmentationDataset) -> int:
    """Columns of a scan; a row of all 16-bit codes would make the scan of a large set take gigabytes."""
    classes = len(dataset.classes)
    return EIGHT_BIT.size if label_codes(classes) is EIGHT_BIT else classes + 1


def _histogram(label: LabelMap, classes: int) -> npt.NDArray[np.int64]:
    """Pixels per class, then the ignored ones, in the columns of a scan.

    Raises:
        DataError: A pixel is neither of a class nor ignored.
    """
    codes = label_codes(classes)
    counts = np.bincount(label.ravel(), minlength=codes.size)
    if codes is EIGHT_BIT:
        return counts
    kept = np.append(counts[:classes], counts[codes.ignore])
    if kept.sum() != label.size:
        wrong = np.flatnonzero(counts[classes : codes.ignore])[0] + classes
        raise DataError(
            f"label id {wrong} is no class of {classes}; expected 0 to {classes - 1} or {codes.ignore}"
        )
    return kept


def _histograms(dataset: SegmentationDataset, indices: Sequence[int]) -> Iterator[npt.NDArray[np.int64]]:
    """Pixel counts per image, in order; decoding releases Python's lock, so threads help."""
    read = getattr(dataset, "read_label", None) or (lambda index: dataset[index].label)
    classes = len(dataset.classes)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        try:
            yield from pool.map(lambda i: _histogram(read(i), classes), indices)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def require_seen_classes(scan: LabelScan, split: ClassSplit, *, exempt: Sequence[int] = ()) -> None:
    """Stop if a class that training relies on never occurs.

    Args:
        scan: Of the training set.
        split: Which classes are seen.
        exempt: Class ids that need no words and no pixels (a thresholded background).

    Raises:
        DataError: Naming each seen class without a pixel.
    """
    needed = range(len(split.classes)) if split.setting == "supervised" else split.seen_ids
    absent = [split.classes[i] for i in needed if scan.pixels[i] == 0 and i not in exempt]
    if absent:
        looked = "all" if scan.scanned == scan.total else "the first"
        raise DataError(
            f"split '{split.name}': seen class {', '.join(map(repr, absent))} has no pixel in {looked} "
            f"{scan.scanned} training label maps; give more images (scenes of the toy world: data.train.length), check the id "
            "map and the class order, or name it as unseen"
        )


def warn_absent_classes(scan: LabelScan, split: ClassSplit) -> tuple[str, ...]:
    """Warn of classes without a pixel in the validation set; their IoU will be NaN and leave the means.

    Returns:
        Their names.
    """
    absent = tuple(name for i, name in enumerate(split.classes) if scan.pixels[i] == 0)
    if absent:
        _log.warning(
            "no pixel of %s in %d validation label maps: such IoU is NaN and does not enter the means",
            some_names(absent),
            scan.scanned,
        )
    return absent


class WithoutClasses:
    """The samples of a data set that show none of some classes.

    Args:
        dataset: The full data set.
        hidden_ids: Class ids whose images are left out.
        scan: A complete scan of ``dataset``.

    Raises:
        DataError: Nothing is left, or the scan saw only a sample.
    """

    def __init__(self, *, dataset: SegmentationDataset, hidden_ids: Sequence[int], scan: LabelScan) -> None:
        if scan.scanned != len(dataset):
            raise DataError(
                f"only {scan.scanned} of {len(dataset)} label maps were read, so images with unseen classes "
                "cannot be left out; a generated data set leaves them out itself: pass it the unseen names "
                "as exclude"
            )
        self.dataset = dataset
        self.kept = np.flatnonzero(~scan.counts[:, list(hidden_ids)].any(1))
        self.scan = LabelScan(scan.counts[self.kept], len(self.kept))
        if not len(self.kept):
            raise DataError(
                f"each of the {len(dataset)} training images shows an unseen class, so "
                "unseen_pixels=excluded leaves none; use split.unseen_pixels=shown or rarer unseen classes"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the full data set."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self.kept[index])]
