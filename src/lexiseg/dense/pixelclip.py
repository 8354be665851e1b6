"""PixelCLIP's reading of the tower that it tunes (Shin et al., NeurIPS 2024)."""

from torch import Tensor

from lexiseg.dense.base import DenseEncoder, DenseState
from lexiseg.ops.grid import PositionMode
from lexiseg.types import BlockTower


class PixelCLIPReading(DenseEncoder):
    """Every patch keeps its own value, on the class token instead of on itself.

    ``y = x0 + O(v)``, ``y += FFN(LN y)``, x0 the class token before the last block, as the release does; MaskCLIP
    with another residual. A tower tuned by :class:`~lexiseg.models.pixel_clip.PixelCLIP` is read as it was
    trained; any other tower can be read so too.

    Differs from the release at inference: there features are resized to 64×64 before they become unit vectors;
    here cosines are taken on the patch grid, like everywhere else, and resized as logits.

    Args:
        tower: The image tower.
        position_mode: How the position embedding reaches other grids.
    """

    def __init__(self, tower: BlockTower, *, position_mode: PositionMode = "bicubic") -> None:
        super().__init__(tower, position_mode=position_mode)

    def encode(self, images: Tensor) -> DenseState:
        """Run all blocks but the last, then its values alone."""
        return DenseState(self.tower.dense_features(images, position_mode=self.position_mode))
