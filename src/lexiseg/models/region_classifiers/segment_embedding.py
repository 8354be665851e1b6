"""Regions named by their own embedding: projected to the text's space and compared with words and a trained "nothing"."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Background = Literal["free", "unit"]
"""Whether the vector of "nothing" keeps its length (ZegFormer) or is brought to length 1 like the words (OVSeg)."""

TEMPERATURE = 100.0
"""What cosines are multiplied by: of both releases, and no model trains it."""


class SegmentEmbedding(nn.Module):
    """``100 * x / |x| . [t_1 … t_K, b]`` with x a projection of the region's embedding and b trained.

    Args:
        width: Channels of a region's embedding.
        embed_dim: E, of the text's space.
        hidden: Channels between the two linear layers of the projection (OVSeg); 0 for a single one (ZegFormer).
        background: See :data:`Background`. The vector starts uniform within ``1 / sqrt(E)``, a unit one normal with that
            deviation.
    """

    def __init__(
        self, width: int, embed_dim: int, *, hidden: int = 0, background: Background = "free"
    ) -> None:
        super().__init__()
        self.projection = (
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, embed_dim))
            if hidden
            else nn.Linear(width, embed_dim)
        )
        self.unit = background == "unit"
        start, bound = torch.empty(1, embed_dim), 1 / math.sqrt(embed_dim)
        start = start.normal_(std=bound) if self.unit else start.uniform_(-bound, bound)
        self.background = nn.Parameter(start)

    def forward(self, embeddings: Tensor, text: Tensor) -> Tensor:
        """Logits of each region and class, "nothing" last.

        Args:
            embeddings: ``(…, N, width)``.
            text: ``(K, E)`` unit rows, one per class.

        Returns:
            ``(…, N, K + 1)``.
        """
        return self.compare(self.projection(embeddings), text)

    def compare(self, features: Tensor, text: Tensor) -> Tensor:
        """Logits ``(…, N, K + 1)`` of features ``(…, N, E)`` that are already in the text's space, of whatever length."""
        background = F.normalize(self.background, dim=-1) if self.unit else self.background
        rows = torch.cat([text, background.to(text.dtype)])
        return TEMPERATURE * F.normalize(features, dim=-1) @ rows.T
