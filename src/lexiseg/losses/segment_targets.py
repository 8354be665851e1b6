"""Label maps as segments: one binary mask per class present."""

from torch import Tensor

from lexiseg.constants import IGNORE_INDEX
from lexiseg.errors import TrainingError
from lexiseg.types import SegmentTargets


def segment_targets(labels: Tensor, classes: int) -> list[SegmentTargets]:
    """The segments of each photograph: one per class present, its pixels wherever they lie.

    Pixels labelled 255 belong to no mask: they are negatives of every one, as in the released code of SAN, MaskFormer and
    ZegFormer.

    Args:
        labels: ``(B, H, W)`` int64 class indices below ``classes``, or 255.
        classes: K, the number of classes that the model knows.

    Returns:
        One per photograph, classes ascending.

    Raises:
        TrainingError: A label is neither a class nor 255.
    """
    found = []
    for label in labels:
        present = label.unique()
        present = present[present != IGNORE_INDEX]
        if len(present) and int(present[-1]) >= classes:
            raise TrainingError(
                f"label {int(present[-1])} reached a loss over {classes} classes; expected ids 0 to {classes - 1} or "
                f"{IGNORE_INDEX}. Check the data set's id map"
            )
        found.append(SegmentTargets(present, label == present.view(-1, 1, 1)))
    return found
