"""Naming regions by what their queries learned and what lies under their masks: FC-CLIP's trained classifier."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.models.perceptron import perceptron
from lexiseg.ops.class_vectors import best_word, scaled_cosines
from lexiseg.ops.mask_pooling import mean_in_regions, regions_on_grid
from lexiseg.types import ClassWords, Proposals

_SCALE = math.log(1 / 0.07)
"""CLIP's own start."""


class PooledQueries(nn.Module):
    """A query plus the mean of the pixel map under its mask, brought to CLIP's text space (FC-CLIP, sec. 3.2).

    The mask is cut at 0 before it pools, so class scores teach the pixel map, never the masks.

    Args:
        width: Channels of queries and pixel map.
        embed_dim: Channels E of the text space.
    """

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.pooling = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.embedding = perceptron(width, width, width, embed_dim)
        self.nothing = nn.Embedding(1, embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(_SCALE))

    def embed(self, proposals: Proposals) -> Tensor:
        """Regions to text space: ``(B, N, E)``, not normalised.

        Raises:
            ValueError: The proposals come without embeddings or without the map of their masks.
        """
        if proposals.embeddings is None or proposals.pixels is None:
            raise ValueError(
                "pooled queries need proposals with embeddings and the map that their masks were read from"
            )
        regions = regions_on_grid(proposals.masks, proposals.pixels.shape[-2:])
        pooled = mean_in_regions(proposals.pixels, regions)
        return self.embedding(self.pooling(pooled) + proposals.embeddings)

    def logits(self, embeddings: Tensor, words: ClassWords) -> Tensor:
        """Class logits of embedded regions.

        Args:
            embeddings: ``(B, N, E)`` of :meth:`embed`.
            words: K classes with their unit text.

        Returns:
            ``(B, N, K + 1)``: the best word of each class, and "no object" last, a trained row of its own.
        """
        rows = torch.cat([words.text, F.normalize(self.nothing.weight, dim=-1)])
        ids = torch.cat([words.class_ids, words.class_ids[-1:] + 1])
        return best_word(scaled_cosines(embeddings, rows, self.logit_scale), ids, words.classes + 1)
