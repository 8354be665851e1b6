"""What a photograph shows as binary masks: of a label map one per class present, of a map of segments one each."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from lexiseg.errors import TrainingError
from lexiseg.label_codes import label_codes
from lexiseg.segments import SegmentMap
from lexiseg.types import SegmentTargets


def segment_targets(labels: Tensor, classes: int) -> list[SegmentTargets]:
    """The segments of each photograph: one per class present, its pixels wherever they lie.

    Pixels without a class belong to no mask: they are negatives of every one, as in the released code of SAN, MaskFormer and
    ZegFormer.

    Args:
        labels: ``(B, H, W)`` int64 class indices below ``classes``, or ``label_codes(classes).ignore``.
        classes: K, the number of classes that the model knows.

    Returns:
        One per photograph, classes ascending.

    Raises:
        TrainingError: A label is neither a class nor the ignored code.
    """
    found, ignore = [], label_codes(classes).ignore
    for label in labels:
        present = label.unique()
        present = present[present != ignore]
        if len(present) and int(present[-1]) >= classes:
            raise TrainingError(
                f"label {int(present[-1])} reached a loss over {classes} classes; expected ids 0 to {classes - 1} or "
                f"{ignore}. Check the data set's id map"
            )
        found.append(SegmentTargets(present, label == present.view(-1, 1, 1)))
    return found


def captioned_targets(
    segments: Sequence[SegmentMap], words: Sequence[Tensor], size: tuple[int, int]
) -> list[SegmentTargets]:
    """Masks without names of each photograph, and the words of its caption: OpenSeg's targets.

    Args:
        segments: Of each photograph.
        words: Of each, ``(W,)`` int64 columns of the class scores.
        size: Height and width of the padded batch; what was padded belongs to no mask.
    """
    found = []
    for one, said in zip(segments, words, strict=True):
        found.append(SegmentTargets(one.classes, _padded_masks(one, size), said))
    return found


def instance_targets(
    segments: Sequence[SegmentMap], query_of_label: Tensor, size: tuple[int, int]
) -> list[SegmentTargets]:
    """The things and stuff of each photograph as the data set tells them apart, in its order: FC-CLIP's targets.

    Args:
        segments: Of each photograph, without crowds and hidden classes.
        query_of_label: Class index of the model by class id of the data set.
        size: Height and width of the padded batch; what was padded belongs to no mask.
    """
    found = []
    for one in segments:
        found.append(SegmentTargets(query_of_label[one.classes], _padded_masks(one, size)))
    return found


def _padded_masks(segments: SegmentMap, size: tuple[int, int]) -> Tensor:
    height, width = segments.ids.shape
    return F.pad(segments.masks(), (0, size[1] - width, 0, size[0] - height), value=False)
