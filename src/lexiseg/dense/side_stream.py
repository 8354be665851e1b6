"""A second stream beside the tower's own: sums the last blocks' changed attention, feeds nothing back."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lexiseg.dense.base import finish_block
from lexiseg.ops.attention import attend
from lexiseg.types import BlockTower


@dataclass(frozen=True)
class BlockReading:
    """What a block computes from its input anyway.

    Attributes:
        normed: ``(B, N, D)`` tokens after the block's first norm.
        query: ``(B, M, N, d)``.
        key: ``(B, M, N, d)``.
        value: ``(B, M, N, d)``.
    """

    normed: Tensor
    query: Tensor
    key: Tensor
    value: Tensor


def run_with_side_stream(
    tower: BlockTower,
    tokens: Tensor,
    *,
    blocks: int,
    read: Callable[[BlockReading], Tensor],
    keep_input: bool = True,
) -> tuple[Tensor, Tensor, BlockReading]:
    """Run the tower on its ordinary stream and sum the changed attention of its last blocks.

    ``g = x_P + Σ_l O_l(read_l)``, where ``x`` enters the first of these blocks and every ``read`` sees the
    ordinary stream. The ordinary half of the last block is left to the caller, since few methods need it.

    Args:
        tower: The frozen tower.
        tokens: ``(B, prefix + P, D)`` entering block 0.
        blocks: How many of the last blocks the side stream reads.
        read: From a block's reading to attended patch values ``(B, M, P, d)``.
        keep_input: Start the side stream from the tokens; from nothing otherwise.

    Returns:
        The side stream's patches ``(B, P, D)``, the ordinary tokens entering the last block, and its reading.
    """
    first = tower.depth - blocks
    for index in range(first):
        tokens = tower.block(index, tokens)
    patches = tokens[:, tower.prefix_tokens :]
    side = patches if keep_input else 0 * patches
    for index in range(first, tower.depth):
        normed = tower.norm1(index, tokens)
        reading = BlockReading(normed, *tower.qkv(index, normed))
        side = side + tower.attention_output(index, read(reading))
        if index < tower.depth - 1:
            attended = attend(reading.query, reading.key, reading.value)
            tokens = finish_block(tower, attended, tokens, index=index)
    return side, tokens, reading
