"""ProxyCLIP: another vision model's correspondence mixes CLIP's values (Lan et al., ECCV 2024)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.loading import load_vision
from lexiseg.dense.base import DenseEncoder, DenseState
from lexiseg.ops.affinity import contrasted_scores, cosine_affinity
from lexiseg.ops.grid import PositionMode, map_to_tokens
from lexiseg.types import BlockTower, ImageTower

ProxyFeatures = Callable[[Tensor], Tensor]
"""Images ``(B, 3, H, W)``, normalised as for the tower, to any model's patch features ``(B, C, h', w')``."""


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
            patches (DINO, DINOv2, DINOv3, …), ``toy`` for the shipped CLIP's, another image tower, or a function
            to features. The default is the release's DINO with patches of 8.
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
        proxy: str | Path | ImageTower | ProxyFeatures = "facebook/dino-vitb8",
        sharpness: float = 3.0,
        shift: float = 1.2,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        chosen = load_vision(proxy) if isinstance(proxy, str | Path) else proxy
        self.proxy: ProxyFeatures = ColoredFor(tower, chosen) if hasattr(chosen, "dense_features") else chosen
        self.sharpness = sharpness
        self.shift = shift

    def encode(self, images: Tensor) -> DenseState:
        """Run both models once; of CLIP's last block only the values and the output projection."""
        value, external = self.read_both(images)
        return self.to_state(self.splice(value, external), (external.shape[-2], external.shape[-1]))

    def read_both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP's values ``(B, M, h'*w', d)`` on the external grid, and the external features ``(B, C, h', w')``."""
        external = self.proxy(images)
        last = self.tower.depth - 1
        value = self.tower.value(last, self.tower.norm1(last, self.run_to_last(images)[:, self.prefix :]))
        return resize_values(
            value, self.tower.grid(images), (external.shape[-2], external.shape[-1])
        ), external

    def splice(self, value: Tensor, external: Tensor, *, mean: Tensor | None = None) -> Tensor:
        """Tokens ``(B, h'*w', D)`` of the last block: the values that :meth:`read_both` gives, mixed.

        Args:
            value: ``(B, M, h'*w', d)``.
            external: ``(B, C, h', w')``.
            mean: Of the external features' cosines; None: each image's own.
        """
        affinity = cosine_affinity(map_to_tokens(external))
        scores = contrasted_scores(affinity, sharpness=self.sharpness, shift=self.shift, mean=mean)
        return self.tower.attention_output(self.tower.depth - 1, scores.softmax(dim=-1)[:, None] @ value)


class ColoredFor(nn.Module):
    """One tower's features of images that are normalised for another: from its colours straight to the own ones.

    Args:
        given: Whose colours the images come in.
        tower: Whose features are wanted.
        read: How they are read of images in the tower's own colours; None: as its ``dense_features``.
    """

    def __init__(self, given: ImageTower, tower: Any, read: ProxyFeatures | None = None) -> None:
        super().__init__()
        self.tower = tower
        self._read: ProxyFeatures = read or tower.dense_features
        mean, std, own_mean, own_std = (
            torch.tensor(each).view(3, 1, 1) for each in (given.mean, given.std, tower.mean, tower.std)
        )
        self.register_buffer("_factor", std / own_std, persistent=False)
        self.register_buffer("_offset", (mean - own_mean) / own_std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(B, C, h', w')`` of ``(B, 3, H, W)``."""
        own = images * self.get_buffer("_factor") + self.get_buffer("_offset")
        return self._read(own)


def resize_values(value: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Bring ``(B, M, P, d)`` values from one patch grid to another."""
    if grid == target:
        return value
    heads, _, channels = value.shape[1:]
    maps = value.transpose(2, 3).flatten(1, 2).unflatten(2, grid)  # (B, M * d, h, w)
    maps = F.interpolate(maps, size=target, mode="bilinear", align_corners=False)
    return maps.flatten(2).unflatten(1, (heads, channels)).transpose(2, 3)
