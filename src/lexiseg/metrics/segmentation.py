"""The zero-shot scores as a torchmetrics metric whose only state is one confusion matrix."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lexiseg.errors import ConfigError
from lexiseg.label_codes import label_codes
from lexiseg.metrics.functional import ZeroShotScores, confusion_matrix, zero_shot_scores
from lexiseg.types import ClassSplit


class ZeroShotMetric(Metric):
    """Seen, unseen and harmonic mean IoU over a whole data set.

    The state is one integer matrix, summed over processes: several processes report what one would, to the
    last digit, however unevenly images are spread over them. (torchmetrics' own ``MeanIoU`` averages over
    images, which no paper of this field does.)

    Args:
        split: Class names and which are seen; label ids are its order.
        ignore_index: Label of pixels that do not count; None: the code of so many classes, ``label_codes(K).ignore``.
        rejection: Predictions may hold K for "no class".

    Raises:
        ConfigError: So many classes that ``ignore_index`` is one of them.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(
        self, split: ClassSplit, *, ignore_index: int | None = None, rejection: bool = False
    ) -> None:
        super().__init__()
        count = len(split.classes)
        if ignore_index is None:
            ignore_index = label_codes(count).ignore
        if 0 <= ignore_index < count:
            raise ConfigError(
                f"ignore_index {ignore_index} is also the id of class '{split.classes[ignore_index]}'; "
                f"with {count} classes choose one outside 0 to {count - 1}, such as -1"
            )
        self.split, self.ignore_index, self.rejection = split, ignore_index, rejection
        zeros = torch.zeros(count, count + rejection, dtype=torch.long)
        self.add_state("confusion", default=zeros, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, label: Tensor) -> None:
        """Count the pixels of some images.

        Args:
            predicted: ``(B, H, W)`` or ``(H, W)`` class ids.
            label: True ids, same shape.

        Raises:
            DataError: See :func:`lexiseg.metrics.functional.confusion_matrix`.
        """
        self.confusion += confusion_matrix(
            predicted,
            label,
            len(self.split.classes),
            ignore_index=self.ignore_index,
            rejection=self.rejection,
        )

    def compute(self) -> ZeroShotScores:
        """All scores, as fractions."""
        return zero_shot_scores(self.confusion, self.split)
