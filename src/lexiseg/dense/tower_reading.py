"""Any image tower by its own reading, for towers without attention that a method could change."""

from torch import Tensor

from lexiseg.dense.base import DenseReading, DenseState
from lexiseg.types import ImageTower


class TowerReading(DenseReading):
    """What the tower itself gives per patch: of a ConvNeXt every position of the last map, normed and projected alone.

    It goes under the name ``clip``; ``pixelclip`` reads such a tower in the same way (Shin et al., NeurIPS 2024).

    Args:
        tower: The frozen image tower.
    """

    def __init__(self, tower: ImageTower) -> None:
        super().__init__(tower)
        self.tower = tower

    def encode(self, images: Tensor) -> DenseState:
        """Run the tower once on normalised ``(B, 3, H, W)``; H and W multiples of the patch size."""
        return DenseState(self.tower.dense_features(images))
