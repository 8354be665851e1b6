"""CLIP read as it was trained: the baseline of every training-free method."""

import torch
from torch import Tensor

from lexiseg.dense.base import BlockPosition, DenseEncoder, DenseState, block_index, finish_block
from lexiseg.errors import ConfigError
from lexiseg.ops.attention import attend, window_mask
from lexiseg.ops.grid import PositionMode
from lexiseg.types import BlockTower


class VanillaCLIP(DenseEncoder):
    """The patch tokens of the unchanged last block (Radford et al. 2021), and three mild changes to it.

    ``y = x + O(softmax(q kᵀ s) v)``, ``y += FFN(LN y)``. The changes are the alternatives that SCLIP's table
    3 tries for bringing features back to their place: sharper attention, attention within a local window, and
    the attention of an earlier block. SCLIP publishes no code for them; the readings below are ours.

    Args:
        tower: The frozen image tower.
        residual: Keep the block's residual (``x +``).
        feed_forward: Keep the block's MLP.
        sharpness: Factor on the attention scores before the softmax; 1 leaves them.
        window: Odd side in patches of the window that each patch attends to, without the class token; None
            for all.
        attention_block: Whose queries and keys make the attention map; the values stay the last block's.
        position_mode: How the position embedding reaches other grids.

    Raises:
        ConfigError: No such block, an even window, or a sharpness that is not above 0.
    """

    def __init__(
        self,
        tower: BlockTower,
        *,
        residual: bool = True,
        feed_forward: bool = True,
        sharpness: float = 1.0,
        window: int | None = None,
        attention_block: BlockPosition = -1,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        if sharpness <= 0:
            raise ConfigError(
                f"clip: expected a sharpness above 0, got {sharpness}; 1 leaves the attention as it is"
            )
        if window is not None and (window < 1 or window % 2 == 0):
            raise ConfigError(
                f"clip: expected an odd window of at least 1 patch, got {window}; null means all patches"
            )
        self.residual = residual
        self.feed_forward = feed_forward
        self.window = window
        self.attention_block = block_index(attention_block, tower.depth, what="clip: attention_block")
        self.scale = sharpness * (tower.width // tower.num_heads) ** -0.5

    def encode(self, images: Tensor) -> DenseState:
        """Run all blocks; the last one for the patches only, which is all that is read."""
        grid = self.tower.grid(images)
        tokens, query, key = self._run(images)
        last = self.tower.depth - 1
        value = self.tower.value(last, self.tower.norm1(last, tokens))
        mask = None
        if self.window is not None:
            allowed = window_mask(grid, side=self.window, device=images.device, prefix=self.prefix)
            mask = _mask_bias(allowed)
        attended = attend(query, key, value, bias=mask, scale=self.scale)
        patches = finish_block(
            self.tower,
            attended,
            tokens[:, self.prefix :],
            residual=self.residual,
            feed_forward=self.feed_forward,
        )
        return self.to_state(patches, grid)

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens entering the last block, and patch queries and all keys of the block that lends its map."""
        tokens = self.embed(images)
        for index in range(self.tower.depth):
            if index == self.attention_block:
                normed = self.tower.norm1(index, tokens)
                query, key = self.tower.query(index, normed[:, self.prefix :]), self.tower.key(index, normed)
            if index < self.tower.depth - 1:
                tokens = self.tower.block(index, tokens)
        return tokens, query, key


def _mask_bias(allowed: Tensor) -> Tensor:
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, -torch.inf)
