"""PixelCLIP's reading of the tower that it tunes (Shin et al., NeurIPS 2024)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lexiseg.dense.base import DenseReading, DenseState
from lexiseg.errors import ConfigError
from lexiseg.ops.grid import PositionMode
from lexiseg.types import ImageTower


class PixelCLIPReading(DenseReading):
    """Every patch keeps its own value, on the class token instead of on itself.

    ``y = x0 + O(v)``, ``y += FFN(LN y)``, x0 the class token before the last block, as the release does; MaskCLIP
    with another residual. A tower tuned by :class:`~lexiseg.models.pixel_clip.PixelCLIP` is read as it was
    trained; any other tower can be read so too, by its own ``dense_features``.

    Args:
        tower: The image tower.
        feature_side: Features are resized bilinearly to a square of this side before they become unit vectors, as the release
            does at inference, with 64, for photographs stretched to a square; None leaves them on the patch grid, like
            everywhere else.
        position_mode: How the position embedding reaches other grids, for towers that leave it to the reading.

    Raises:
        ConfigError: A side below 1.
    """

    templates = "pixelclip_test8"

    def __init__(
        self, tower: ImageTower, *, feature_side: int | None = None, position_mode: PositionMode = "bicubic"
    ) -> None:
        super().__init__(tower)
        if feature_side is not None and feature_side < 1:
            raise ConfigError(
                f"pixelclip: expected a feature_side of at least 1, got {feature_side}; null keeps the patch grid"
            )
        self.tower: Any = tower
        self.feature_side = feature_side
        self.position_mode = position_mode

    def encode(self, images: Tensor) -> DenseState:
        """Run all blocks but the last, then its values alone; a tower without blocks as its own reading does."""
        chosen = {"position_mode": self.position_mode} if self.tower.has_blocks else {}
        features = self.tower.dense_features(images, **chosen)
        if self.feature_side is not None:
            side = (self.feature_side, self.feature_side)
            features = F.interpolate(features.float(), size=side, mode="bilinear", align_corners=False)
        return DenseState(features)
