"""Things and stuff one by one, cut from a label map that knows classes alone."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from lexiseg.data.label_regions import label_regions
from lexiseg.label_codes import LabelMap, codes_of
from lexiseg.segments import NO_SEGMENT, Segments

LEAST_PIXELS = 32
"""Smaller pieces are mostly what other things leave visible of one, and count neither as found nor as missed."""


def label_segments(label: LabelMap, stuff: Collection[int], *, least: int = LEAST_PIXELS) -> Segments:
    """Each connected piece of a thing's class is a thing; all pixels of a class of stuff are one segment.

    An approximation: things of one class that touch are one, and a thing that another one cuts in two is two. The pieces of a
    class that are smaller than ``least`` are one crowd together.

    Args:
        label: ``(H, W)`` class ids; ignored and unlabelled pixels belong to no segment.
        stuff: Ids of classes that are not counted.
        least: Pixels of the smallest piece that is a thing.

    Returns:
        The segments by ascending class id, a class's crowd last.
    """
    ids = np.full(label.shape, NO_SEGMENT, dtype=np.uint16)
    classes: list[int] = []
    crowds: list[bool] = []
    codes = codes_of(label)

    def add(mask: npt.NDArray[np.bool_], class_id: int, *, crowd: bool = False) -> None:
        ids[mask] = len(classes)
        classes.append(class_id)
        crowds.append(crowd)

    for class_id in np.unique(label).tolist():
        if class_id in (codes.ignore, codes.unlabelled):
            continue
        region = label == class_id
        if class_id in stuff:
            add(region, class_id)
            continue
        pieces = label_regions(np.where(region, label, codes.ignore)).ids
        areas = np.bincount(pieces.ravel())
        for piece in np.flatnonzero(areas[1:] >= least) + 1:
            add(pieces == piece, class_id)
        small = region & (areas[pieces] < least)
        if small.any():
            add(small, class_id, crowd=True)
    things = np.array([class_id not in stuff for class_id in classes], dtype=np.bool_)
    return Segments(ids, np.array(classes, dtype=np.int64), things, np.array(crowds, dtype=np.bool_))
