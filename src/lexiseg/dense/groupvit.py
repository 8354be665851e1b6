"""GroupViT: a pixel takes the word of its group (Xu et al., CVPR 2022)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lexiseg.dense.base import DenseReading
from lexiseg.errors import ConfigError
from lexiseg.ops.grouping import background_groups, name_groups, owners, paint_groups
from lexiseg.types import GroupTower, MaskOutput, PatchGroups


@dataclass(frozen=True)
class GroupedState:
    """Windows after the tower.

    Attributes:
        groups: What became of their patches.
        size: Height and width of the windows in pixels.
    """

    groups: PatchGroups
    size: tuple[int, int]


class GroupViT(DenseReading):
    """The published segmentation of a GroupViT, for that tower alone.

    Every pixel of a window belongs to the one group of the highest soft assignment, resized bilinearly. A group's value for a
    word is ``P1·P2``: its soft-max over all words, times its soft-max over the words that fit the whole window best. Values are
    not cosines: they lie in [0, 1], and the words change each other's, so all are asked together.

    Differs from the release: the tower runs once per window, where the release runs it for the maps and again for the vectors.
    ``transformers``' ``segmentation_logits`` are another rule.

    Args:
        tower: The frozen GroupViT.
        top: How many words of a window may name its groups; 5 in the release.
        background_threshold: Let the first word stand for the background, which is then never compared: groups whose best value
            is lower get 1 there, but for a window's best group. Published: 0.95 on VOC and COCO-Object, 0.35 on Context.
            None: no word is the background.

    Raises:
        ConfigError: A setting out of range.
    """

    depends_on_text = True
    words_together = True
    cosine_logits = False
    templates = "gem"  # the release's set "simple" is the same one sentence

    def __init__(self, tower: GroupTower, *, top: int = 5, background_threshold: float | None = None) -> None:
        super().__init__(tower)
        if top < 1:
            raise ConfigError(f"groupvit: expected top of at least 1 word, got {top}")
        if background_threshold is not None and not 0 <= background_threshold <= 1:
            raise ConfigError(
                f"groupvit: expected background_threshold from 0 to 1, got {background_threshold}; null means that no word is "
                "the background"
            )
        self.tower = tower
        self.top = top
        self.background_threshold = background_threshold

    def encode(self, images: Tensor) -> GroupedState:
        """Run the tower once on normalised ``(B, 3, H, W)``; H and W multiples of the patch size."""
        return GroupedState(self.tower.groups(images), (images.shape[-2], images.shape[-1]))

    def features(self, state: GroupedState, text: Tensor | None = None) -> Tensor:
        """Features ``(B, E, h, w)``, not normalised: every patch has the embedding of its group."""
        del text
        groups = state.groups
        height, width = groups.maps.shape[-2:]
        return paint_groups(groups.embeddings, owners(groups.maps, (height, width)))

    def decode(self, state: GroupedState, text: Tensor) -> MaskOutput:
        """Values ``(B, K, H, W)`` in [0, 1] of every pixel of the windows; ``text`` is all words, ``(K, E)``, unit length.

        Raises:
            ConfigError: No word is left beside the background.
        """
        groups, threshold = state.groups, self.background_threshold
        words = text if threshold is None else text[1:]
        if not len(words):
            raise ConfigError(
                "groupvit takes the first word as the background, and there is no other; name a class, or leave "
                "background_threshold out"
            )
        values = name_groups(
            groups.embeddings, groups.image, words, scale=self.tower.logit_scale, top=self.top
        )
        if threshold is not None:
            values = torch.cat(
                [background_groups(values, threshold)[..., None].to(values.dtype), values], dim=2
            )
        return MaskOutput(paint_groups(values, owners(groups.maps, state.size)))
