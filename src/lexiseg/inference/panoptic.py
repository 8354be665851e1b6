"""A photograph in segments that do not overlap: each thing by itself, each kind of stuff as one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from lexiseg.data.io import ImageSource, read_image
from lexiseg.inference.annotated import Annotated
from lexiseg.inference.instances import Instance, InstanceSegmentation
from lexiseg.inference.pictures import NO_CLASS, overlay_image
from lexiseg.ops.mask_classification import PanopticSegment
from lexiseg.ops.run_length import encode_labels


@dataclass(frozen=True, repr=False)
class PanopticSegmentation(Annotated):
    """A panoptic map of a photograph; :meth:`lexiseg.Segmenter.panoptic` makes it.

    Attributes:
        ids: ``(H, W)`` int32 segment numbers, 0 for none.
        segments: Ascending by number, which counts from 1.
        id2label: Class name per id.
        stuff: Names of the classes that are not counted.
        unseen: Names of classes without training labels, where the model knows which were seen.
        protocol: The settings that led here, as plain values.
        known_words: As of :class:`~lexiseg.inference.result.Segmentation`.
    """

    ids: npt.NDArray[np.int32]
    segments: tuple[PanopticSegment, ...]
    id2label: Mapping[int, str]
    stuff: frozenset[str] = frozenset()
    unseen: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    known_words: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"PanopticSegmentation({self.size[0]}x{self.size[1]}: {self.describe(most=4)})"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.ids.shape[0], self.ids.shape[1]

    def describe(self, *, most: int = 8) -> str:
        """Classes found, largest first, how many of a thing and their share of the picture; ``most`` of them are named."""
        areas: dict[int, int] = {}
        for segment in self.segments:
            areas[segment.class_id] = areas.get(segment.class_id, 0) + segment.area
        told = []
        for class_id in sorted(areas, key=lambda each: -areas[each]):
            count = sum(segment.class_id == class_id and segment.thing for segment in self.segments)
            share = f"{self.id2label[class_id]} {100 * areas[class_id] / self.ids.size:.1f} %"
            told.append(f"{count} x {share}" if count else share)
        more = [f"and {len(told) - most} more"] if len(told) > most else []
        return ", ".join(told[:most] + more) or "no segment"

    def class_map(self) -> npt.NDArray[np.int32]:
        """``(H, W)`` class ids; ``len(id2label)`` where there is no segment."""
        table = np.full(len(self.segments) + 1, len(self.id2label), dtype=np.int32)
        table[[segment.id for segment in self.segments]] = [segment.class_id for segment in self.segments]
        return table[self.ids]

    def to_instances(self) -> InstanceSegmentation:
        """Its segments, those of stuff too, as objects by descending score."""
        runs = encode_labels(self.ids) if self.ids.size else []
        runs = runs[len(runs) - len(self.segments) :]  # what belongs to no segment comes first
        things = [
            Instance(segment.class_id, segment.score, of_segment)
            for segment, of_segment in zip(self.segments, runs, strict=True)
        ]
        things.sort(key=lambda thing: -thing.score)
        told = (self.id2label, self.stuff, self.unseen, self.protocol, self.known_words)
        return InstanceSegmentation(self.size, tuple(things), *told)

    def to_coco(self) -> list[dict[str, Any]]:
        """``segments_info`` of COCO's panoptic format, with a score: what each id of :meth:`id_image` is."""
        boxes = ndimage.find_objects(self.ids, max_label=len(self.segments))
        return [
            {
                "id": segment.id,
                "category_id": segment.class_id,
                "area": segment.area,
                "bbox": [
                    columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start,
                ],
                "iscrowd": 0,
                "score": None if math.isnan(segment.score) else segment.score,
            }
            for segment, (rows, columns) in zip(self.segments, boxes, strict=True)
        ]  # fmt: skip

    def id_image(self) -> Image.Image:
        """COCO's panoptic picture: red + 256 green + 65536 blue is the number of the segment, black is none."""
        parts = (self.ids >> shift & 255 for shift in (0, 8, 16))
        return Image.fromarray(np.stack([part.astype(np.uint8) for part in parts], axis=-1))

    def overlay(self, image: ImageSource) -> Image.Image:
        """The photograph coloured by class with a border around every segment, and a legend.

        Args:
            image: The photograph that was segmented.

        Raises:
            LexisegError: It has another size, or cannot be read.
        """
        names = [self.id2label[index] for index in range(len(self.id2label))]
        return overlay_image(
            read_image(image), self.class_map(), [*names, NO_CLASS], unseen=self.unseen, outlines=self.ids
        )
