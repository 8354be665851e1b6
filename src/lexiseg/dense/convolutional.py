"""CLIP with a ConvNeXt, read as it was trained but for the average over the image."""

from torch import Tensor

from lexiseg.clip.towers.convnext import ConvNextTower
from lexiseg.dense.base import DenseReading, DenseState


class ConvolutionalCLIP(DenseReading):
    """Every position of the last map, normed and projected on its own.

    A ConvNeXt has no attention that could be changed, so this is its one reading: under the name ``clip``, and
    under ``pixelclip`` too, for PixelCLIP trains and reads its ConvNeXt in the same way (Shin et al., NeurIPS
    2024).

    Args:
        tower: The frozen image tower.
    """

    def __init__(self, tower: ConvNextTower) -> None:
        super().__init__(tower.patch_size)
        self.tower = tower

    def encode(self, images: Tensor) -> DenseState:
        """Run the tower once on normalised ``(B, 3, H, W)``; H and W multiples of the patch size."""
        return DenseState(self.tower.dense_features(images))
