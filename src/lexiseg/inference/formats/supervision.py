"""``supervision.Detections``, for Roboflow's annotators, trackers and metrics."""

from typing import TYPE_CHECKING

import numpy as np

from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.lazy import require_extra
from lexiseg.ops.run_length import compress_counts

if TYPE_CHECKING:
    from supervision import Detections

_MANY = 16
"""Masks from which on they are kept as run lengths, where the library can do so."""


def detections(found: InstanceSegmentation) -> "Detections":
    """Boxes, masks, class ids, confidences, and the names as ``data["class_name"]``.

    Few masks are one ``(N, H, W)`` array, many a ``CompactMask``, which reads like one and takes a fraction of the memory.

    Raises:
        ConfigError: supervision is not installed.
    """
    sv = require_extra("supervision", "supervision", "detections")
    height, width = found.size
    boxes = np.array(found.boxes(), dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    compact = getattr(sv, "CompactMask", None)
    if compact is not None and len(found.things) >= _MANY:
        runs = [{"size": [height, width], "counts": compress_counts(thing.runs)} for thing in found.things]
        masks = compact.from_coco_rle(runs, boxes - np.array([0, 0, 1, 1], dtype=np.float32), (height, width))
    else:
        masks = np.zeros((len(found.things), height, width), dtype=np.bool_)
        for index in range(len(found.things)):
            masks[index] = found.mask(index)
    scores = np.array([thing.score for thing in found.things], dtype=np.float32)
    made: Detections = sv.Detections(
        xyxy=boxes,
        mask=masks,
        class_id=np.array([thing.class_id for thing in found.things], dtype=np.int64),
        confidence=None if np.isnan(scores).any() else scores,
        data={"class_name": np.array([found.id2label[thing.class_id] for thing in found.things], dtype=str)},
    )
    return made
