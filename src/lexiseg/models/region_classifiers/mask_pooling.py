"""Naming regions by a frozen convolutional CLIP that pools under each mask: FC-CLIP's classifier for words never trained."""

import torch
from torch import Tensor

from lexiseg.ops.class_vectors import best_word, scaled_cosines
from lexiseg.ops.mask_pooling import regions_on_grid
from lexiseg.types import ClassWords, Proposals, RegionPooling


class MaskPooling:
    """CLIP's own pooling under masks instead of over the image (FC-CLIP, sec. 3.3). It has nothing to train.

    A convolutional CLIP keeps its meaning on maps larger than it was trained on, so its last map is computed once, and
    its pooling looks at each region of it.

    Args:
        tower: Frozen, or what pools in its place.
    """

    def __init__(self, tower: RegionPooling) -> None:
        self.tower = tower

    @torch.no_grad()
    def embed(self, proposals: Proposals, features: Tensor) -> tuple[Tensor, Tensor]:
        """Regions to text space.

        Args:
            proposals: Of the same images.
            features: ``(B, C, h, w)`` the last of the tower's stage maps.

        Returns:
            Embeddings ``(B, N, E)``, not normalised, and ``(B, N)`` bool: whether the tower saw the region. One whose mask
            is nowhere above 0 on the map's grid is not seen, unless the tower's pooling knows such regions.
        """
        regions = regions_on_grid(proposals.masks, features.shape[-2:])
        seen = regions.flatten(2).any(dim=-1)
        if self.tower.empty_regions:
            seen = torch.ones_like(seen)
        return self.tower.pool_regions(features, regions), seen

    def logits(self, embeddings: Tensor, words: ClassWords) -> Tensor:
        """Class logits ``(B, N, K)`` of embedded regions by CLIP's own scale: the best word of each class."""
        cosines = scaled_cosines(embeddings, words.text, self.tower.logit_scale)
        return best_word(cosines, words.class_ids, words.classes)
