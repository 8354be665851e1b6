"""ClearCLIP: the last block's q-q attention alone (Lan et al., ECCV 2024)."""

from typing import Literal

from torch import Tensor

from lexiseg.dense.base import BlockPosition, DenseEncoder, DenseState, block_count
from lexiseg.dense.side_stream import BlockReading, run_with_side_stream
from lexiseg.ops.attention import attend
from lexiseg.ops.grid import PositionMode
from lexiseg.types import BlockTower

SelfKind = Literal["query", "key", "value"]


class ClearCLIP(DenseEncoder):
    """Attention output without residual and without MLP: ``y = O(softmax(q qᵀ s) v)`` (paper section 3.3).

    The paper finds that the residual stream's large norms drown the local signal. The class token takes part
    in the attention and is dropped afterwards. With several blocks their outputs, each read from the
    unchanged stream, are summed, as the release offers; its tables use the last block alone.

    Args:
        tower: The frozen image tower.
        similarity: Which projection is correlated with itself; the paper also tries keys and values.
        blocks: How many last blocks to sum; a float is a fraction of the depth.
        position_mode: How the position embedding reaches other grids.

    Raises:
        ConfigError: No such number of blocks.
    """

    def __init__(
        self,
        tower: BlockTower,
        *,
        similarity: SelfKind = "query",
        blocks: BlockPosition = 1,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        self.similarity: SelfKind = similarity
        self.blocks = block_count(blocks, tower.depth, what="clearclip: blocks")

    def encode(self, images: Tensor) -> DenseState:
        """Run all blocks but the last, reading the attention of the last ones."""
        patches, _, _ = run_with_side_stream(
            self.tower, self.embed(images), blocks=self.blocks, read=self._read, keep_input=False
        )
        return self.to_state(patches, self.tower.grid(images))

    def _read(self, block: BlockReading) -> Tensor:
        projected = getattr(block, self.similarity)
        return attend(projected[:, :, self.prefix :], projected, block.value)
