"""What every maker of masks has in common."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lexiseg.masks.mask_set import MaskSet

Picture = npt.NDArray[np.uint8]
"""``(H, W, 3)`` RGB."""


class MaskProvider(Protocol):
    """A photograph in, masks without names out; the same photograph and settings give the same masks."""

    @property
    def name(self) -> str:
        """What the cache and the command line call it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values of everything that the masks depend on besides the photograph; kept in the cache."""

    def __call__(self, image: Picture) -> MaskSet:
        """Masks of an ``(H, W, 3)`` uint8 RGB photograph, at its own size."""
