"""What single patches attend to in a tower's last block, as CLIP was trained and under correlative self-attention (SCLIP)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lexiseg.ops.attention import attention_map
from lexiseg.types import BlockTower

CLIP, CORRELATIVE = "CLIP", "CSA"


@torch.inference_mode()
def point_attention(
    tower: BlockTower, images: Tensor, patches: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """Attention of chosen patches over all patches, the mean over heads (SCLIP's figures 2 and 4).

    ``CLIP`` is ``softmax(q kᵀ s)``, ``CSA`` the mean of ``softmax(q qᵀ s)`` and ``softmax(k kᵀ s)`` (eq. 3, whose sum is twice
    as much). What goes to the class token is not shown, so that a map sums to less than 1.

    Args:
        tower: A frozen tower of blocks.
        images: One normalised photograph ``(1, 3, H, W)``; sides multiples of the patch.
        patches: Row and column of each of the n patches.

    Returns:
        ``(n, h, w)`` float32 by name.
    """
    grid, prefix, last = tower.grid(images), tower.prefix_tokens, tower.depth - 1
    tokens = tower.embed(images, position_mode=tower.position_mode or "bicubic_offset")
    for index in range(last):
        tokens = tower.block(index, tokens)
    query, key, _ = tower.qkv(last, tower.norm1(last, tokens))
    rows = torch.tensor([prefix + row * grid[1] + column for row, column in patches], device=images.device)

    def seen(asking: Tensor, asked: Tensor) -> Tensor:
        maps = attention_map(asking[:, :, rows], asked)[0].mean(0)
        return maps[:, prefix:].float().cpu().unflatten(1, grid)

    return {CLIP: seen(query, key), CORRELATIVE: (seen(query, query) + seen(key, key)) / 2}
