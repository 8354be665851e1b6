"""Objects of a label map: pixels of a class together, or each piece that hangs together by itself.

A model that names pixels cannot tell two dogs that touch apart: they are one piece.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lexiseg.errors import LexisegError
from lexiseg.inference.instances import Instance, InstanceSegmentation
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.inference.pictures import NO_CLASS
from lexiseg.ops.connected_pieces import Pieces, connected_pieces
from lexiseg.ops.mask_classification import PanopticSegment
from lexiseg.ops.run_length import encode_labels

if TYPE_CHECKING:
    from lexiseg.inference.result import Segmentation

_MOST_SEGMENTS = 2**24 - 1
"""Numbers that COCO's picture of ids tells apart."""


def instances_of(result: "Segmentation", *, pieces: bool, stuff: frozenset[str]) -> InstanceSegmentation:
    """Objects by descending score, without scores from top to bottom; a score is the mean over the pixels.

    Args:
        result: Pixels with classes. What has no class, and a class of background, is no object.
        pieces: Whether each connected piece of a class is an object, or the class as a whole.
        stuff: Names of classes that are whole all the same.
    """
    classes = _classes(result)
    whole = [index for index, name in classes.items() if not pieces or name in stuff]
    found = connected_pieces(result.labels, whole=whole, nothing=_nothing(result))
    runs = encode_labels(found.ids) if found.ids.size else []
    runs = runs[len(runs) - len(found.classes) :]  # what belongs to nothing comes first
    scores = _scores(result, found)
    order = np.argsort(-scores, kind="stable")
    things = tuple(Instance(int(found.classes[each]), float(scores[each]), runs[each]) for each in order)
    return InstanceSegmentation(result.size, things, classes, stuff, *_told(result))


def panoptic_of(result: "Segmentation", *, stuff: frozenset[str]) -> PanopticSegmentation:
    """Every pixel in one segment or in none: a class of ``stuff`` is one, of others each piece that hangs together.

    Raises:
        LexisegError: More segments than COCO's picture of ids can tell apart.
    """
    classes = _classes(result)
    whole = [index for index, name in classes.items() if name in stuff]
    found = connected_pieces(result.labels, whole=whole, nothing=_nothing(result))
    if len(found.classes) > _MOST_SEGMENTS:
        raise LexisegError(
            f"{len(found.classes)} pieces are more than the {_MOST_SEGMENTS} of a panoptic picture; name classes as stuff"
        )
    each = zip(found.classes.tolist(), found.areas.tolist(), _scores(result, found).tolist(), strict=True)
    segments = tuple(
        PanopticSegment(number, class_id, classes[class_id] not in stuff, area, score)
        for number, (class_id, area, score) in enumerate(each, start=1)
    )
    return PanopticSegmentation(found.ids.astype(np.int32), segments, classes, stuff, *_told(result))


def _classes(result: "Segmentation") -> dict[int, str]:
    """Names of the classes, without that of no class."""
    last = len(result.id2label) - 1
    return {index: name for index, name in result.id2label.items() if index != last or name != NO_CLASS}


def _nothing(result: "Segmentation") -> Collection[int]:
    classless = set(result.id2label) - set(_classes(result))
    return classless | ({0} if result.protocol.get("background") == "class" else set())


def _scores(result: "Segmentation", found: Pieces) -> npt.NDArray[np.float64]:
    if result.scores is None:
        return np.full(len(found.classes), np.nan)
    return found.means(result.scores)


def _told(result: "Segmentation") -> tuple[tuple[str, ...], Mapping[str, object], tuple[str, ...] | None]:
    return result.unseen, result.protocol, result.known_words
