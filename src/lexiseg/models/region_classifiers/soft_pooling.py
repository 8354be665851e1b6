"""Naming regions by a trained map that is averaged under soft masks: OpenSeg's classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.ops.soft_regions import soft_region_means
from lexiseg.types import Proposals


class SoftPooling:
    """Cosines of words with the mean of a map under each soft mask, over a temperature. It has nothing to train.

    Args:
        temperature: What cosines are divided by.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def embed(self, proposals: Proposals, features: Tensor) -> Tensor:
        """Regions to the words' space.

        Args:
            proposals: Of the same images. Masks on another grid are averaged over each position of the map.
            features: ``(B, E, h, w)``.

        Returns:
            ``(B, N, E)``, not normalised.
        """
        masks, size = proposals.masks.sigmoid(), features.shape[-2:]
        if masks.shape[-2:] != size:
            masks = F.interpolate(masks, size=size, mode="area")
        return soft_region_means(masks, features)

    def logits(self, embeddings: Tensor, text: Tensor) -> Tensor:
        """Regions or pixels ``(…, E)`` and unit ``(K, E)`` to ``(…, K)``."""
        return F.normalize(embeddings, dim=-1) @ text.to(embeddings.dtype).T / self.temperature

    def scores(self, embeddings: Tensor, text: Tensor) -> Tensor:
        """:meth:`logits` after the soft-max over classes."""
        return torch.softmax(self.logits(embeddings, text), dim=-1)
