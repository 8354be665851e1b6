"""The first blocks of a frozen CLIP on a smaller image, run once for all that read them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import ConfigError
from lexiseg.types import ImageTower


@dataclass(frozen=True)
class EarlyTokens:
    """What the first blocks gave.

    Attributes:
        blocks: ``(B, 1 + h*w, D)`` tokens, class token first, after each block that was asked for; 0 is what enters the
            first.
        last: Number of the last of them.
        grid: ``(h, w)``.
    """

    blocks: Mapping[int, Tensor]
    last: int
    grid: tuple[int, int]

    @property
    def tokens(self) -> Tensor:
        """After the last of the blocks."""
        return self.blocks[self.last]


def pixels_of_patch(patch: int, resolution: float) -> int | None:
    """Pixels of the photograph under one patch of a smaller image; of multiples of it no pixel is dropped.

    Args:
        patch: Side of a patch of the smaller image.
        resolution: Side of that image as a share of the photograph's.

    Returns:
        Their number along a side; None where it is not whole.
    """
    pixels = round(patch / resolution)
    return pixels if abs(pixels * resolution - patch) <= 1e-6 else None


def trained_early_blocks(
    tower: ImageTower,
    *,
    model: str,
    last: int,
    kept: frozenset[int],
    resolution: float,
    group: str = "model",
) -> "EarlyBlocks":
    """The first blocks of a CLIP, checked to be one that shadow tokens can run through, with a copy of its positions.

    Args:
        tower: The frozen CLIP.
        model: Who asks, for the message.
        last: See :class:`EarlyBlocks`.
        kept: Likewise.
        resolution: Likewise.
        group: Likewise.

    Raises:
        ConfigError: The tower is of another kind, or has no block left.
    """
    if tower.kind != "ViT":
        raise ConfigError(f"model '{model}' needs a CLIP with a ViT; got a {tower.kind}")
    if not tower.takes_prompts:
        raise ConfigError(f"model '{model}' needs a CLIP ViT with a class token and no register tokens")
    vit: VisionTower = tower  # type: ignore[assignment]
    if last >= vit.depth:
        raise ConfigError(
            f"model.early_blocks: {last} leave none of the CLIP's {vit.depth} blocks for the shadow tokens; give at most "
            f"{vit.depth - 1}"
        )
    return EarlyBlocks(vit.positions, last=last, kept=kept, resolution=resolution, group=group)


class EarlyBlocks(nn.Module):
    """CLIP's first blocks; frozen but for the position embedding, so gradients run through them (SAN, as released).

    Args:
        positions: ``(1 + n*n, D)``, where the trained position embedding starts.
        last: Number of blocks.
        kept: Block numbers after which the tokens are kept, 0 for the embedded image; ``last`` always is.
        resolution: Side of CLIP's image as a share of the given one's, rounded down.
        group: Where ``resolution`` stands in the model's settings, for the message.
    """

    def __init__(
        self,
        positions: Tensor,
        *,
        last: int,
        kept: frozenset[int],
        resolution: float,
        group: str = "model",
    ) -> None:
        super().__init__()
        self._group = group
        self.positions = nn.Parameter(positions.detach().clone())
        self.last, self.kept, self.resolution = last, kept | {last}, resolution

    def forward(self, tower: VisionTower, images: Tensor) -> EarlyTokens:
        """Run them.

        Args:
            tower: The frozen CLIP.
            images: ``(B, 3, H, W)`` normalised, at full size. What is no whole patch of the smaller image is dropped.

        Raises:
            ConfigError: The smaller image has no whole patch.
        """
        # Given the factor, torch samples at exactly 1 / factor, not at the ratio of the rounded sizes.
        small = F.interpolate(
            images, scale_factor=self.resolution, mode="bilinear", align_corners=False, antialias=False
        )
        patch = tower.patch_size
        height, width = (side // patch * patch for side in small.shape[-2:])
        if not (torch.compiler.is_compiling() or (height and width)):
            raise ConfigError(
                f"an image of {images.shape[-2]}x{images.shape[-1]} pixels at {self.resolution} of its size has no whole patch "
                f"of {patch} pixels; give a larger one, or set a larger {self._group}.resolution"
            )
        small = small[..., :height, :width]
        tokens = tower.embed(small, position_mode="bicubic", positions=self.positions)
        blocks = {0: tokens}
        for index in range(self.last):
            tokens = tower.block(index, tokens)
            blocks[index + 1] = tokens
        kept = {number: value for number, value in blocks.items() if number in self.kept}
        return EarlyTokens(kept, self.last, (height // patch, width // patch))
