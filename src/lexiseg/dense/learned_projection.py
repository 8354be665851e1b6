"""SCLIP's learned projection: the one ablation of its table 2 that sees labels."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.dense.base import cosines, finish_block
from lexiseg.errors import DataError
from lexiseg.label_codes import label_codes
from lexiseg.ops.attention import attend
from lexiseg.ops.grid import PositionMode, tokens_to_map
from lexiseg.types import BlockTower


def fit_projection(
    tower: BlockTower,
    batches: Iterable[tuple[Tensor, Tensor]],
    text: Tensor,
    *,
    epochs: int = 10,
    learning_rate: float = 1e-4,
    logit_scale: float = 40.0,
    position_mode: PositionMode = "bicubic_offset",
) -> Tensor:
    """Fit the ``(D, D)`` matrix whose self-correlation replaces the last block's attention.

    The paper learns it per data set on 64 training images and gives no recipe; here it starts from the query
    projection and follows AdamW on the cross-entropy of patch logits. Everything before the last block is
    computed once; nothing of the tower changes.

    Args:
        tower: The frozen image tower.
        batches: Normalised images ``(B, 3, H, W)`` and labels ``(B, H, W)``, ``label_codes(K).ignore`` where nothing counts.
        text: ``(K, E)`` unit embeddings of the classes.
        epochs: Passes over the images.
        learning_rate: Of AdamW, without weight decay.
        logit_scale: Factor on the cosines.
        position_mode: How the position embedding reaches other grids.

    Returns:
        A matrix for ``SCLIP(projections=("learned",), learned=…)``.

    Raises:
        DataError: No image, or none with a labelled patch.
    """
    ignore = label_codes(len(text)).ignore
    with torch.no_grad():
        cached = [_tokens_and_labels(tower, images, labels, position_mode) for images, labels in batches]
    if not any((labels != ignore).any() for _, labels in cached):
        raise DataError("learning a projection needs at least one labelled image; got none")
    start = tower.projections(tower.depth - 1)[0].weight.detach().T
    matrix = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([matrix], lr=learning_rate, weight_decay=0.0)
    for _ in range(epochs):
        for tokens, labels in cached:
            if not (labels != ignore).any():
                continue
            optimizer.zero_grad()
            logits = logit_scale * _patch_logits(tower, tokens, matrix, text, labels.shape[-2:])
            F.cross_entropy(logits, labels, ignore_index=ignore).backward()
            optimizer.step()
    return matrix.detach()


def _tokens_and_labels(
    tower: BlockTower, images: Tensor, labels: Tensor, position_mode: PositionMode
) -> tuple[Tensor, Tensor]:
    """Tokens entering the last block, and the label at the centre of every patch, ``(B, h, w)``."""
    tokens = tower.embed(images, position_mode=position_mode)
    for index in range(tower.depth - 1):
        tokens = tower.block(index, tokens)
    middle = tower.patch_size // 2
    return tokens, labels[:, middle :: tower.patch_size, middle :: tower.patch_size].long()


def _patch_logits(
    tower: BlockTower, tokens: Tensor, matrix: Tensor, text: Tensor, grid: torch.Size
) -> Tensor:
    last = tower.depth - 1
    normed = tower.norm1(last, tokens)
    heads = tower.split_heads(normed @ matrix)
    prefix = tower.prefix_tokens
    attended = attend(heads[:, :, prefix:], heads, tower.value(last, normed))
    patches = tower.project(finish_block(tower, attended, tokens[:, prefix:]))
    return cosines(tokens_to_map(patches, (grid[0], grid[1])), text)
