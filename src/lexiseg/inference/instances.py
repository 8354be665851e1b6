"""The things of a photograph one by one, whatever they overlap."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.data.io import ImageSource, read_image
from lexiseg.inference.annotated import Annotated
from lexiseg.inference.pictures import NO_CLASS, overlay_image
from lexiseg.ops.outlines import Outline, outlines
from lexiseg.ops.run_length import Counts, box_of_rle, compress_counts, decode_rle, sample_rle

_DRAWN = 0.3
"""Least score of a thing that is drawn: the file holds a hundred guesses about a photograph, most of them poor."""

_HIDDEN = 0.5
"""A thing of which better ones cover more than this share is left out of the picture."""


@dataclass(frozen=True)
class Instance:
    """One thing.

    Attributes:
        class_id: Its class.
        score: In [0, 1]; NaN where none was computed.
        runs: Of its mask, which has a pixel at least; see :mod:`lexiseg.ops.run_length`.
    """

    class_id: int
    score: float
    runs: Counts

    @property
    def area(self) -> int:
        """Its pixels."""
        return int(self.runs[1::2].sum())

    @property
    def told_score(self) -> float | None:
        """The score for a file; None where there is none."""
        return None if math.isnan(self.score) else self.score


@dataclass(frozen=True, repr=False)
class InstanceSegmentation(Annotated):
    """Things of a photograph; :meth:`lexiseg.Segmenter.instances` makes it.

    Attributes:
        size: Height and width.
        things: By descending score.
        id2label: Class name per id.
        stuff: Names of the classes that are not counted.
        unseen: Names of classes without training labels, where the model knows which were seen.
        protocol: The settings that led here, as plain values.
        known_words: As of :class:`~lexiseg.inference.result.Segmentation`.
    """

    size: tuple[int, int]
    things: tuple[Instance, ...]
    id2label: Mapping[int, str]
    stuff: frozenset[str] = frozenset()
    unseen: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    known_words: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"InstanceSegmentation({self.size[0]}x{self.size[1]}: {self.describe(most=4)})"

    def describe(self, *, most: int = 8) -> str:
        """Classes found, the most frequent first, with their best score; ``most`` of them are named."""
        counts = Counter(thing.class_id for thing in self.things)
        best = {thing.class_id: thing.score for thing in reversed(self.things)}
        told = [
            f"{count} x {self.id2label[index]} (best {best[index]:.2f})"
            for index, count in counts.most_common()
        ]
        more = [f"and {len(told) - most} more"] if len(told) > most else []
        return ", ".join(told[:most] + more) or "no thing"

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """``(H, W)`` mask of one thing, made when asked for."""
        return decode_rle(self.things[index].runs, self.size)

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """COCO box ``(left, top, width, height)`` of each thing."""
        return [box_of_rle(thing.runs, self.size[0]) for thing in self.things]

    def outlines(self, index: int) -> list[Outline]:
        """The polygons of one thing, one for each piece that hangs together, in pixels of the photograph."""
        runs = self.things[index].runs
        left, top, width, height = box_of_rle(runs, self.size[0])
        mask = sample_rle(runs, self.size, np.arange(top, top + height), np.arange(left, left + width))
        return outlines(mask, origin=(left, top))

    def to_instances(self) -> "InstanceSegmentation":
        """Itself."""
        return self

    def to_coco(self, *, polygons: bool = False) -> list[dict[str, Any]]:
        """COCO annotations with scores and names; what is missing is ``id`` and ``image_id``.

        Args:
            polygons: Masks as polygons along the edges of pixels, one for each piece, a cut of no width leading to each hole,
                instead of compressed run lengths.
        """
        return [
            {
                "category_id": thing.class_id,
                "category_name": self.id2label[thing.class_id],
                "segmentation": self._polygons(index) if polygons else self._run_lengths(index),
                "area": thing.area,
                "bbox": list(box),
                "iscrowd": 0,
                "score": thing.told_score,
            }
            for index, (thing, box) in enumerate(zip(self.things, self.boxes(), strict=True))
        ]

    def overlay(self, image: ImageSource) -> Image.Image:
        """The photograph with its things coloured by class, borders around each, and a legend.

        The better one is drawn where two overlap. What scores less than 0.3 is not drawn, and neither is what better ones cover
        by more than half.

        Args:
            image: The photograph that was segmented.

        Raises:
            LexisegError: It has another size, or cannot be read.
        """
        owners = np.zeros(self.size, dtype=np.int32)
        classes = [len(self.id2label)]
        for index, thing in enumerate(self.things):
            free = self.mask(index) & (owners == 0)
            if thing.score >= _DRAWN and free.sum() > _HIDDEN * thing.area:
                owners[free] = len(classes)
                classes.append(thing.class_id)
        names = [self.id2label[index] for index in range(len(self.id2label))]
        labels = np.array(classes, dtype=np.int32)[owners]
        return overlay_image(
            read_image(image), labels, [*names, NO_CLASS], unseen=self.unseen, outlines=owners
        )

    def _run_lengths(self, index: int) -> dict[str, Any]:
        return {"size": list(self.size), "counts": compress_counts(self.things[index].runs)}

    def _polygons(self, index: int) -> list[list[int]]:
        return [piece.one_ring().ravel().tolist() for piece in self.outlines(index)]
