"""Score a segmenter on a labelled data set; the report carries every setting beside the numbers."""

import hashlib
import json
import logging
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lexiseg.errors import ConfigError
from lexiseg.evaluation.naming import MaskSource
from lexiseg.inference.segmenter import Segmenter
from lexiseg.keys import some_names
from lexiseg.metrics.functional import ZeroShotScores
from lexiseg.metrics.mask_naming import MaskNamingMetric, MaskScores
from lexiseg.metrics.segmentation import ZeroShotMetric
from lexiseg.progress import doing
from lexiseg.storage import write_json
from lexiseg.types import ClassSplit, Sample, SegmentationDataset, chunks

log = logging.getLogger(__name__)

_PACKAGES = ("lexiseg", "torch", "transformers", "numpy", "pillow")
_COLUMNS = {
    "seen": "seen",
    "unseen": "unseen",
    "harmonic": "harmonic",
    "miou": "all",
    "miou_absent_as_zero": "all, absent as 0",
    "pixel_accuracy": "pixel acc.",
    "mask_accuracy": "mask acc.",
    "mask_class_accuracy": "mask acc. by class",
    "mask_class_accuracy_seen": "by seen class",
    "mask_class_accuracy_unseen": "by unseen class",
}


@dataclass(frozen=True)
class EvaluationReport:
    """Scores with the protocol they were measured under.

    Attributes:
        result: All scores, as fractions.
        images: How many were scored.
        split: The classes and which were seen.
        settings: Everything else that decides a number, as plain values.
        seconds_per_image: From pixels to labels, without reading and scoring; the first batch, which warms
            up, left out. NaN where there was no other.
        naming: Scores of the names of given masks; None where the segmenter found its own. The pixels of ``result`` then have
            the name of the smallest given mask over them.
    """

    result: ZeroShotScores
    images: int
    split: ClassSplit
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds_per_image: float = math.nan
    naming: MaskScores | None = None

    @property
    def scores(self) -> dict[str, float]:
        """``seen``, ``unseen``, ``harmonic``, ``miou`` and ``pixel_accuracy``, as fractions; see `ZeroShotScores.summary`.

        With given masks, also what `MaskScores.summary` names.
        """
        return self.result.summary() | ({} if self.naming is None else self.naming.summary())

    def to_dict(self) -> dict[str, Any]:
        """Plain values: scores, classes, split, settings, software."""
        return {
            "scores": self.scores,
            "per_class": {name: self._of_class(name) for name in self.split.classes},
            "images": self.images,
            "seconds_per_image": self.seconds_per_image,
            "split": told_split(self.split),
            **self.settings,
            **self._of_masks(),
            "software": software_versions(),
        }

    def _of_class(self, name: str) -> dict[str, float]:
        own = {"iou": self.result.iou[name], "accuracy": self.result.accuracy[name]}
        return own if self.naming is None else {**own, "mask_accuracy": self.naming.per_class[name]}

    def _of_masks(self) -> dict[str, Any]:
        """Which masks were given, and how many of them were judged."""
        if self.naming is None:
            return {}
        return {"masks": {**self.settings.get("masks", {}), "judged": self.naming.masks}}

    def write(self, path: Path | str) -> Path:
        """Write :meth:`to_dict` as JSON, whole or not at all.

        Raises:
            LexisegError: The place cannot be written to.
        """
        write_json(self.to_dict(), Path(path))
        return Path(path)

    def to_markdown(self) -> str:
        """The summary as a table of percentages, and one row per class below."""
        rows = [
            f"| {name} | {'unseen' if name in self.split.unseen else 'seen'} | "
            f"{' | '.join(map(percent, self._of_class(name).values()))} |"
            for name in self.split.classes
        ]
        more = " mask acc. % |" if self.naming else ""
        head = [
            f"| class | | IoU % | accuracy % |{more}",
            f"| --- | --- | ---: | ---: |{' ---: |' if more else ''}",
        ]
        return "\n".join([markdown_table({self.split.name: self}), *self._told_masks(), "", *head, *rows, ""])

    def _told_masks(self) -> list[str]:
        if self.naming is None:
            return []
        source = self.settings.get("masks", {}).get("source", "given")
        return [
            "",
            f"The names of {self.naming.masks} masks ({source}); every pixel has the name of its mask.",
        ]


def evaluate(
    segmenter: Segmenter,
    dataset: SegmentationDataset,
    split: ClassSplit,
    *,
    limit: int | None = None,
    context: Mapping[str, Any] | None = None,
    images_per_batch: int = 1,
    masks: MaskSource | None = None,
) -> EvaluationReport:
    """Segment every image of a data set by the path that prediction takes, and score it.

    Under ``torch.distributed`` each process takes every n-th image and all report the same.

    Args:
        segmenter: Its vocabulary's classes are the split's, in order.
        dataset: Photographs and labels.
        split: Classes in label-id order.
        limit: Score the first so many images only; the report says so.
        context: What else the report shall say: CLIP source and fingerprint, checkpoint, seeds, data set.
        images_per_batch: Photographs whose windows share the tower's batches; does not change a score.
        masks: Give these to the segmenter, and judge the names that it gives them.

    Raises:
        ConfigError: Vocabulary, data set and split do not have the same classes, or there is no image.
        DataError: An image or label map is unreadable or outside the schema.
    """
    check_classes(segmenter, dataset, split, limit)
    rank, world = place_among_processes()
    metric = ZeroShotMetric(split, rejection=segmenter.protocol.rejects)
    naming = None if masks is None else MaskNamingMetric(split)
    total = len(dataset) if limit is None else min(limit, len(dataset))
    indices = range(rank, total, world)
    spent: list[tuple[int, float]] = []
    with doing(f"judging {segmenter.protocol.name}", len(indices)) as work:
        for part in chunks(len(indices), images_per_batch):
            samples = [dataset[index] for index in indices[part]]
            given = _given(masks, dataset, indices[part], samples)
            start = time.perf_counter()
            results = segmenter.segment_batch([sample.image for sample in samples], scores=False, masks=given)
            spent.append((len(samples), time.perf_counter() - start))
            for number, (sample, result) in enumerate(zip(samples, results, strict=True)):
                label = torch.from_numpy(sample.label.astype(np.int64))
                metric.update(torch.from_numpy(result.labels.astype(np.int64)), label)
                if naming is not None and given is not None and result.mask_classes is not None:
                    naming.update(
                        torch.from_numpy(result.mask_classes), torch.from_numpy(given[number]), label
                    )
            work.advance(len(samples))
    scores = metric.compute()
    absent = [name for name, iou in scores.iou.items() if math.isnan(iou)]
    if absent:
        _warn_absent(some_names(absent))
    settings = {**settings_of(segmenter), "limit": limit, **(context or {})}
    if masks is not None:
        settings["masks"] = dict(masks.told)
    named = None if naming is None else naming.compute()
    return EvaluationReport(scores, total, split, settings, mean_seconds(spent), named)


def markdown_table(reports: Mapping[str, EvaluationReport]) -> str:
    """One row of percentages per named report."""
    shown = {
        key: title for key, title in _COLUMNS.items() if any(key in each.scores for each in reports.values())
    }
    lines = [
        f"| | {' | '.join(f'{title} %' for title in shown.values())} | images |",
        f"| --- |{' ---: |' * (len(shown) + 1)}",
    ]
    for name, report in reports.items():
        values = " | ".join(percent(_score(report, key)) for key in shown)
        lines.append(f"| {name} | {values} | {report.images} |")
    return "\n".join(lines)


def _score(report: EvaluationReport, key: str) -> float:
    """One that the report's own summary may leave out, or that it has not."""
    return float(getattr(report.result, key, report.scores.get(key, math.nan)))


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that take part in a score."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that is not installed
            versions[name] = "unknown"
    return versions


def names_hash(words: Sequence[Sequence[str]]) -> str:
    """Short hash of class names with synonyms, in order: equal for equal words."""
    return hashlib.sha256(json.dumps(list(map(list, words)), ensure_ascii=False).encode()).hexdigest()[:16]


def _given(
    masks: MaskSource | None, dataset: SegmentationDataset, indices: Sequence[int], samples: Sequence[Sample]
) -> list[npt.NDArray[np.bool_]] | None:
    """The masks of some photographs, made before the clock runs."""
    if masks is None:
        return None
    return [masks.masks(dataset, index, sample) for index, sample in zip(indices, samples, strict=True)]


def told_split(split: ClassSplit) -> dict[str, Any]:
    """A split as reports tell it, plain values."""
    return {
        "name": split.name,
        "setting": split.setting,
        "unseen_pixels": split.unseen_pixels,
        "seen": list(split.seen),
        "unseen": list(split.unseen),
    }


def settings_of(segmenter: Segmenter) -> dict[str, Any]:
    """What of a segmenter decides a number, plain values."""
    vocabulary = segmenter.vocabulary
    templates = vocabulary.templates
    return {
        "protocol": segmenter.protocol.to_dict(),
        "vocabulary": {
            "templates": list(templates) if isinstance(templates, tuple) else templates,
            "words": [list(group) for group in vocabulary.words],
            "words_hash": names_hash(vocabulary.words),
        },
        "seen_ids": list(segmenter.seen_ids),
        "model": type(segmenter.model).__name__,
    }


def check_classes(
    segmenter: Segmenter, dataset: SegmentationDataset, split: ClassSplit, limit: int | None
) -> None:
    """Refuse to judge what does not fit together.

    Raises:
        ConfigError: Vocabulary, data set and split do not have the same classes, or there is no image.
    """
    if tuple(dataset.classes) != split.classes:
        raise ConfigError(
            f"the {len(dataset.classes)} classes of the data set and the {len(split.classes)} of split "
            f"'{split.name}' differ in number, names or order; use a split of this data set"
        )
    if len(segmenter.vocabulary) != len(split.classes):
        raise ConfigError(
            f"the vocabulary has {len(segmenter.vocabulary)} classes, the split '{split.name}' "
            f"{len(split.classes)}; evaluation needs one group of words per class, in the split's order"
        )
    if not len(dataset) or (limit is not None and limit < 1):
        raise ConfigError("no image to evaluate: the data set is empty or limit is below 1")


@lru_cache(maxsize=64)
def _warn_absent(names: str) -> None:
    """Said once, however many methods are scored on the same images."""
    log.warning("no labelled pixel of %s in these images: left out of the means", names)


def mean_seconds(spent: Sequence[tuple[int, float]]) -> float:
    """Mean over all batches but the first."""
    images = sum(count for count, _ in spent[1:])
    return sum(seconds for _, seconds in spent[1:]) / images if images else math.nan


def place_among_processes() -> tuple[int, int]:
    """Rank and number of processes under ``torch.distributed``."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def percent(value: float) -> str:
    """A fraction as tables tell it."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
