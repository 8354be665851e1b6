"""A block of a small vision transformer that trains from scratch."""

import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.ops.attention import attend

_EPS = 1e-6


class SideBlock(nn.Module):
    """Pre-norm attention and MLP with exact GELU (ViT; timm's form: norm eps 1e-6, biased query, key and value).

    Args:
        width: Channels.
        heads: Divides the width.
        hidden: Channels inside the MLP.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        for linear in (self.qkv, self.proj, self.fc1, self.fc2):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, N, C)`` to the same shape."""
        parts = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1))  # (B, N, 3, heads, d)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        tokens = tokens + self.proj(attend(query, key, value).transpose(1, 2).flatten(2))
        return tokens + self.fc2(F.gelu(self.fc1(self.norm2(tokens))))
