"""The type of a label map and its two codes that are no class; small sets stay at 8 bits, and nothing is capped at 255.

A label map holds class ids from 0. Up to 254 classes it is uint8 and 255 and 254 are codes, as in every benchmark file;
with more it is uint16, and the codes move to the top of its range, 65535 and 65534. Who knows the number of classes asks
:func:`label_codes`; who holds an array alone asks :func:`codes_of`, for the type says which codes are in it. Tensors are
int64 and keep the codes of the classes that they number: a loss over K classes ignores ``label_codes(K).ignore``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lexiseg.constants import IGNORE_INDEX, UNLABELLED
from lexiseg.errors import ConfigError

LabelMap = npt.NDArray[np.integer[Any]]
"""``(H, W)`` uint8 or uint16 class ids and codes."""


@dataclass(frozen=True)
class LabelCodes:
    """How the label maps of some number of classes are stored.

    Attributes:
        ignore: Label of a pixel that takes no part in training or scoring.
        unlabelled: Label of a training pixel whose class is unseen: no ground truth, but self-training may label it.
    """

    ignore: int
    unlabelled: int

    @property
    def size(self) -> int:
        """How many values a label can have; the length of a look-up table."""
        return self.ignore + 1

    @property
    def dtype(self) -> "np.dtype[np.uint8] | np.dtype[np.uint16]":
        """Type of the arrays."""
        return np.dtype(np.uint8) if self.size == 2**8 else np.dtype(np.uint16)


EIGHT_BIT = LabelCodes(IGNORE_INDEX, UNLABELLED)
SIXTEEN_BIT = LabelCodes(2**16 - 1, 2**16 - 2)
MOST_CLASSES = SIXTEEN_BIT.unlabelled


def label_codes(num_classes: int) -> LabelCodes:
    """The codes of label maps of so many classes: the smallest type that holds them and both codes.

    Raises:
        ConfigError: More classes than 16 bits hold.
    """
    if num_classes > MOST_CLASSES:
        raise ConfigError(f"{num_classes} classes; a label map holds at most {MOST_CLASSES}")
    return EIGHT_BIT if num_classes <= EIGHT_BIT.unlabelled else SIXTEEN_BIT


def codes_of(label: LabelMap) -> LabelCodes:
    """The codes that an array uses, from its type: 16-bit ones in uint16, else those of 8 bits."""
    return SIXTEEN_BIT if label.dtype == np.uint16 else EIGHT_BIT
