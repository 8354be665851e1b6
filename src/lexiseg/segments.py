"""Things and stuff of a photograph one by one: what panoptic labels say beyond a class for every pixel."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lexiseg.label_codes import SIXTEEN_BIT, LabelMap, codes_of

NO_SEGMENT = SIXTEEN_BIT.ignore
"""Index of a pixel that belongs to no segment; so a map of indices is cropped and padded as a 16-bit label map is."""


@dataclass(frozen=True)
class Segment:
    """One thing, or one kind of stuff, of a photograph.

    Attributes:
        class_id: Its class.
        is_thing: Whether it can be counted: a dog, not grass.
        is_crowd: Whether it stands for many things that nobody told apart; no target of training.
        mask: ``(H, W)`` bool.
    """

    class_id: int
    is_thing: bool
    is_crowd: bool
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Segments:
    """All segments of a photograph; they do not overlap.

    Attributes:
        ids: ``(H, W)`` uint16 indices of segments, ``NO_SEGMENT`` where there is none.
        classes: ``(N,)`` int64 class ids.
        things: ``(N,)`` bool, see `Segment`.
        crowds: ``(N,)`` bool.
    """

    ids: npt.NDArray[np.uint16]
    classes: npt.NDArray[np.int64]
    things: npt.NDArray[np.bool_]
    crowds: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self) -> Iterator[Segment]:
        for index, facts in enumerate(zip(self.classes, self.things, self.crowds, strict=True)):
            yield Segment(int(facts[0]), bool(facts[1]), bool(facts[2]), self.ids == index)

    def label(self, table: LabelMap) -> LabelMap:
        """``(H, W)`` labels of the pixels, in the table's type.

        Args:
            table: Label by class id; see `lexiseg.data.splits.seen_label_map`.
        """
        of_segment = np.full(SIXTEEN_BIT.size, codes_of(table).ignore, dtype=table.dtype)
        of_segment[: len(self)] = table[self.classes]
        return of_segment[self.ids]

    def at(self, ids: npt.NDArray[np.uint16]) -> "Segments":
        """The same segments on another map of indices: cropped, scaled or mirrored."""
        return replace(self, ids=ids)

    def targets(self, table: LabelMap) -> "Segments":
        """What is left to train on: no crowd, none without a pixel, none whose class the table hides; numbered anew."""
        codes = codes_of(table)
        shown = np.bincount(self.ids.ravel(), minlength=len(self))[: len(self)] > 0
        hidden = np.isin(table[self.classes], (codes.ignore, codes.unlabelled))
        kept = shown & ~self.crowds & ~hidden
        index = np.full(SIXTEEN_BIT.size, NO_SEGMENT, dtype=np.uint16)
        index[: len(self)][kept] = np.arange(kept.sum())
        return Segments(index[self.ids], self.classes[kept], self.things[kept], self.crowds[kept])

    def tensors(self) -> "SegmentMap":
        """As tensors, for a batch."""
        ids = torch.from_numpy(self.ids.astype(np.int32))
        ids[ids == NO_SEGMENT] = -1
        return SegmentMap(ids, torch.from_numpy(self.classes.copy()), torch.from_numpy(self.things.copy()))


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """The segments of one photograph of a batch; masks are made where they are needed, for they are large.

    Attributes:
        ids: ``(H, W)`` int32 indices of segments, -1 where there is none.
        classes: ``(N,)`` int64 class ids.
        things: ``(N,)`` bool.
    """

    ids: Tensor
    classes: Tensor
    things: Tensor

    def masks(self) -> Tensor:
        """``(N, H, W)`` bool."""
        index = torch.arange(len(self.classes), dtype=torch.int32, device=self.ids.device)
        return self.ids == index[:, None, None]

    def to(self, device: torch.device | str, **kwargs: Any) -> "SegmentMap":
        """On ``device``."""
        moved = (tensor.to(device, **kwargs) for tensor in (self.ids, self.classes, self.things))
        return SegmentMap(*moved)

    def pin_memory(self) -> "SegmentMap":
        """In page-locked memory."""
        return SegmentMap(self.ids.pin_memory(), self.classes.pin_memory(), self.things.pin_memory())
