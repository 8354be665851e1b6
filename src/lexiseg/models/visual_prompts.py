"""Deep visual prompt tokens: the only thing that trains inside the frozen tower (VPT, as ZegCLIP uses it)."""

import math

import torch
from torch import Tensor, nn


class VisualPrompts(nn.Module):
    """Learnable tokens between the class token and the patches, fresh ones before every block.

    All go through one shared linear projection. They carry no position embedding. Initial values are uniform within
    ``sqrt(6 / (3 p^2 + D))`` for patch side p, the projection is Kaiming-normal over its outputs (released code;
    the paper does not say).

    Args:
        depth: Blocks L of the tower.
        width: Channels D of its tokens.
        patch_size: p, in pixels; only scales the initial values.
        length: Prompt tokens P per block.
        dropout: On projected prompts, drawn anew for each image.
    """

    def __init__(
        self, *, depth: int, width: int, patch_size: int, length: int = 10, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.length = length
        bound = math.sqrt(6 / (3 * patch_size**2 + width))
        self.tokens = nn.Parameter(torch.empty(depth, length, width).uniform_(-bound, bound))
        self.projection = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.projection.weight, mode="fan_out")
        self.dropout = nn.Dropout(dropout)

    def forward(self, index: int, batch: int) -> Tensor:
        """Prompts ``(B, P, D)`` that enter block ``index`` (from 0)."""
        return self.dropout(self.projection(self.tokens[index]).expand(batch, -1, -1))

    def insert(self, tokens: Tensor, index: int) -> Tensor:
        """Put prompts into ``(B, 1 + N, D)``, or replace those of the block before: ``(B, 1 + P + N, D)``."""
        patches_from = 1 if index == 0 else 1 + self.length
        return torch.cat([tokens[:, :1], self(index, tokens.shape[0]), tokens[:, patches_from:]], dim=1)
