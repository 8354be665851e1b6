"""ProxyCLIP: another vision model's correspondence mixes CLIP's values (Lan et al., ECCV 2024)."""

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from lexiseg.clip.towers.external import ExternalVision
from lexiseg.dense.base import DenseEncoder, DenseState
from lexiseg.ops.affinity import contrasted_scores, cosine_affinity
from lexiseg.ops.grid import PositionMode
from lexiseg.types import BlockTower

ProxyFeatures = Callable[[Tensor], Tensor]
"""CLIP-normalised images ``(B, 3, H, W)`` to any model's patch features ``(B, C, h', w')``."""


class ProxyCLIP(DenseEncoder):
    """The last block's values, mixed by the self-similarity of an external feature map.

    With ``E`` the unit external features and ``S = E Eᵀ``: ``A = softmax(γ (S - β mean S))`` where negatives
    are shut out, ``y = O(A v)`` with ``v`` of the patches resized bilinearly to E's grid; no class token,
    residual or MLP (paper eq. 5 to 7). The result lives on E's grid, 42×42 for a patch of 8 at 336 pixels.

    Differs from the release: any rectangle (its token grid is the transpose of the image's, right for squares
    only) and images of one colour, which left its softmax without any entry.

    Args:
        tower: The frozen image tower.
        proxy: The external model: a hub name or folder of any vision model of ``transformers`` with square
            patches (DINO, DINOv2, DINOv3, …), or a function to features. The default is the release's DINO
            with patches of 8.
        sharpness: γ.
        shift: β.
        position_mode: How CLIP's position embedding reaches other grids.

    Raises:
        LexisegError: The external model cannot be loaded.
    """

    def __init__(
        self,
        tower: BlockTower,
        *,
        proxy: str | Path | ProxyFeatures = "facebook/dino-vitb8",
        sharpness: float = 3.0,
        shift: float = 1.2,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        self.proxy: ProxyFeatures = ExternalVision(proxy) if isinstance(proxy, str | Path) else proxy
        self.sharpness = sharpness
        self.shift = shift

    def encode(self, images: Tensor) -> DenseState:
        """Run both models once; of CLIP's last block only the values and the output projection."""
        external = self.proxy(images)
        target = (external.shape[-2], external.shape[-1])
        affinity = cosine_affinity(external.flatten(2).transpose(1, 2))
        weights = contrasted_scores(affinity, sharpness=self.sharpness, shift=self.shift).softmax(dim=-1)
        last = self.tower.depth - 1
        value = self.tower.value(last, self.tower.norm1(last, self.run_to_last(images)[:, self.prefix :]))
        value = _resize_values(value, self.tower.grid(images), target)
        return self.to_state(self.tower.attention_output(last, weights[:, None] @ value), target)


def _resize_values(value: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Bring ``(B, M, P, d)`` values from one patch grid to another."""
    if grid == target:
        return value
    heads, _, channels = value.shape[1:]
    maps = value.transpose(2, 3).flatten(1, 2).unflatten(2, grid)  # (B, M * d, h, w)
    maps = F.interpolate(maps, size=target, mode="bilinear", align_corners=False)
    return maps.flatten(2).unflatten(1, (heads, channels)).transpose(2, 3)
