"""Patch tokens after every block of a tower: the frozen CLIP's own, and those of a trained model's prompted tower."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lexiseg.inference.encoding import Picture
from lexiseg.ops.resize import keep_ratio_size, resize_image
from lexiseg.types import ImageTower

BlockReading = Callable[[Tensor], Iterator[Tensor]]
"""``(B, 3, H, W)`` RGB in 0-255, H and W multiples of the patch, to ``(B, h*w, D)`` after each block, from the first."""


@runtime_checkable
class PromptedModel(Protocol):
    """A model that can be looked into: what it trains stands inside a tower, which it can run block by block."""

    def normalize(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in 0-255 to what ``block_tokens`` takes."""

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Normalised ``(B, 3, H, W)`` to patch tokens ``(B, h*w, D)`` after every block, from the first."""


@dataclass(frozen=True)
class BlockTokens:
    """One photograph after every block.

    Attributes:
        grid: Patches h and w.
        blocks: ``(h*w, D)`` patch tokens after each block, float32 on the processor.
    """

    grid: tuple[int, int]
    blocks: tuple[Tensor, ...]


def frozen_blocks(tower: ImageTower) -> BlockReading:
    """A tower as released: its own normalisation, no prompts."""

    def read(images: Tensor) -> Iterator[Tensor]:
        yield from tower.block_tokens(normalized(tower, images))

    return read


def normalized(tower: ImageTower, images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` RGB in 0-255 as the tower was trained to see it."""
    mean, std = (images.new_tensor(v).view(3, 1, 1) * 255 for v in (tower.mean, tower.std))
    return (images - mean) / std


def trained_blocks(model: PromptedModel) -> BlockReading:
    """The tower as a trained model runs it, with its prompts; the model must be in evaluation mode."""

    def read(images: Tensor) -> Iterator[Tensor]:
        return model.block_tokens(model.normalize(images))

    return read


@torch.inference_mode()
def read_blocks(
    reading: BlockReading, image: Picture, *, short_side: int, patch_size: int, device: torch.device
) -> BlockTokens:
    """Run a tower over one photograph, whole and without windows.

    Args:
        reading: Which tower.
        image: ``(H, W, 3)`` uint8 RGB.
        short_side: Pixels that the shorter side is brought to; both sides are then rounded to whole patches.
        patch_size: Of the tower.
        device: Where the tower is.
    """
    images = whole_image(image, short_side=short_side, patch_size=patch_size, device=device)
    height, width = images.shape[-2:]
    blocks = tuple(tokens[0].float().cpu() for tokens in reading(images))
    return BlockTokens((height // patch_size, width // patch_size), blocks)


def whole_image(image: Picture, *, short_side: int, patch_size: int, device: torch.device) -> Tensor:
    """A photograph as ``(1, 3, H, W)`` RGB in 0-255 of whole patches; arguments as of :func:`read_blocks`."""
    height, width = (
        max(round(side / patch_size), 1) * patch_size for side in keep_ratio_size(image.shape[:2], short_side)
    )
    resized = resize_image(torch.from_numpy(np.ascontiguousarray(image)), (height, width))
    return resized.permute(2, 0, 1)[None].float().to(device)
