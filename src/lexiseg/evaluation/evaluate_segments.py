"""Score the segments that a segmenter finds: panoptic quality, or mask AP of things."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lexiseg.data.label_segments import LEAST_PIXELS, label_segments
from lexiseg.errors import ConfigError
from lexiseg.evaluation.evaluate import (
    check_classes,
    mean_seconds,
    percent,
    place_among_processes,
    settings_of,
    software_versions,
    told_split,
)
from lexiseg.inference.encoding import Picture
from lexiseg.inference.segment_finding import SegmentKind, stuff_names
from lexiseg.inference.segmenter import Segmenter
from lexiseg.metrics.mask_average_precision import MaskAPScores, MaskAveragePrecision
from lexiseg.metrics.panoptic import PanopticMetric, PanopticScores
from lexiseg.progress import doing
from lexiseg.segments import Segments
from lexiseg.storage import write_json
from lexiseg.types import ClassSplit, SegmentationDataset

_AS_LABELLED = "things as labelled"
_CONNECTED = f"things are connected pieces of at least {LEAST_PIXELS} pixels"

_TITLES = {
    "pq": "PQ", "sq": "SQ", "rq": "RQ", "things": "PQ things", "stuff": "PQ stuff", "seen": "seen", "unseen": "unseen",
    "ap": "AP", "ap50": "AP50", "ap75": "AP75",
}  # fmt: skip


@dataclass(frozen=True)
class SegmentReport:
    """Scores of segments with the protocol they were measured under.

    Attributes:
        result: All scores, as fractions.
        images: How many were scored.
        split: The classes and which were seen.
        settings: Everything else that decides a number, as plain values.
        seconds_per_image: From pixels to segments; the first photograph, which warms up, left out.
    """

    result: PanopticScores | MaskAPScores
    images: int
    split: ClassSplit
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds_per_image: float = float("nan")

    @property
    def scores(self) -> dict[str, float]:
        """The means, as fractions; see :class:`~lexiseg.metrics.panoptic.PanopticScores`."""
        return self.result.summary()

    def to_dict(self) -> dict[str, Any]:
        """Plain values: scores, classes, split, settings, software."""
        return {
            "scores": self.scores,
            "per_class": self.result.per_class,
            "images": self.images,
            "seconds_per_image": self.seconds_per_image,
            "split": told_split(self.split),
            **self.settings,
            "software": software_versions(),
        }

    def write(self, path: Path | str) -> Path:
        """Write :meth:`to_dict` as JSON, whole or not at all."""
        write_json(self.to_dict(), Path(path))
        return Path(path)

    def to_markdown(self) -> str:
        """The means as a table of percentages, and one row per class below."""
        columns = list(next(iter(self.result.per_class.values()), {}))
        lines = [
            f"| | {' | '.join(f'{_TITLES[key]} %' for key in self.scores)} | images |",
            f"| --- |{' ---: |' * (len(self.scores) + 1)}",
            f"| {self.split.name} | {' | '.join(map(percent, self.scores.values()))} | {self.images} |",
            "",
            f"| class | | {' | '.join(f'{_TITLES[key]} %' for key in columns)} |",
            f"| --- | --- |{' ---: |' * len(columns)}",
        ]
        for name, values in self.result.per_class.items():
            which = "unseen" if name in self.split.unseen else "seen"
            lines.append(f"| {name} | {which} | {' | '.join(map(percent, values.values()))} |")
        return "\n".join([*lines, ""])


def evaluate_segments(
    segmenter: Segmenter,
    dataset: SegmentationDataset,
    split: ClassSplit,
    kind: SegmentKind,
    *,
    stuff: Sequence[str] | None = None,
    limit: int | None = None,
    context: Mapping[str, Any] | None = None,
) -> SegmentReport:
    """Find the segments of every photograph by the path that prediction takes, and score them.

    Where a data set tells things apart, those are the truth. Elsewhere each connected piece of a thing's class counts as one
    thing (:func:`~lexiseg.data.label_segments.label_segments`), which the report says: such figures compare with
    each other, and not with those of a benchmark that knows its things.

    Args:
        segmenter: Of a model of regions; its vocabulary's classes are the split's, in order.
        dataset: Photographs and labels.
        split: Classes in label-id order.
        kind: What is looked for.
        stuff: Names of the classes that are not counted; None: as the data set says.
        limit: Score the first so many images only; the report says so.
        context: What else the report shall say.

    Raises:
        ConfigError: A model without segments, classes that differ, or a data set that does not say what is stuff.
        DataError: An image or label map is unreadable or outside the schema.
    """
    check_classes(segmenter, dataset, split, limit)
    names = _stuff_of(dataset, stuff)
    segmenter.require_segments(names)
    chosen = stuff_names(names, segmenter.vocabulary)
    ids = [index for index, name in enumerate(segmenter.vocabulary.names) if name in chosen]
    rank, world = place_among_processes()
    total = len(dataset) if limit is None else min(limit, len(dataset))
    background = segmenter.protocol.background == "class"  # its regions are no segments
    metric = (
        PanopticMetric(split, ids, background=background)
        if kind == "panoptic"
        else MaskAveragePrecision(split, sorted({*ids, *([0] if background else [])}))
    )
    spent: list[tuple[int, float]] = []
    truths: set[str] = set()
    with doing(f"judging {segmenter.protocol.name}", len(range(rank, total, world))) as work:
        for index in range(rank, total, world):
            sample = dataset[index]
            truth = sample.segments
            truths.add(_AS_LABELLED if truth is not None else _CONNECTED)
            start = time.perf_counter()
            count = _find(metric, segmenter, sample.image, names)
            spent.append((1, time.perf_counter() - start))
            count(label_segments(sample.label, ids) if truth is None else truth)
            work.advance()
    told = {"kind": kind, "stuff": sorted(chosen), "truth": " and ".join(sorted(truths))}
    settings = {"segments": told, **settings_of(segmenter), "limit": limit, **(context or {})}
    return SegmentReport(metric.compute(), total, split, settings, mean_seconds(spent))


def _find(
    metric: PanopticMetric | MaskAveragePrecision, segmenter: Segmenter, image: Picture, stuff: Sequence[str]
) -> Callable[[Segments], None]:
    """Look for what the metric counts; the answer counts it, once it is given the truth."""
    if isinstance(metric, PanopticMetric):
        found = segmenter.panoptic(image, stuff=stuff)
        return partial(metric.update, torch.from_numpy(found.ids), torch.from_numpy(found.class_map()))
    things = segmenter.instances(image, stuff=stuff)
    masks = (things.mask(index) for index in range(len(things.things)))
    scores = [thing.score for thing in things.things]
    return partial(metric.update, masks, scores, [thing.class_id for thing in things.things])


def _stuff_of(dataset: SegmentationDataset, stuff: Sequence[str] | None) -> tuple[str, ...]:
    own = getattr(dataset, "stuff", None) if stuff is None else stuff
    if own is None:
        raise ConfigError(
            "the data set does not say which of its classes are stuff, which is not counted one by one; name them, as in "
            "stuff=[sky,road], or set stuff=[] where all classes are things"
        )
    return tuple(own)
