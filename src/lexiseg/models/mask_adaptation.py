"""How OVSeg teaches CLIP to read regions cut out of their surroundings, on pairs of a region and a noun (sec. 3.3)."""

import copy
import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lexiseg.losses.image_text_contrast import contrastive_loss
from lexiseg.models.parameter_groups import group_parameters
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from lexiseg.types import GroupSettings, ImageTower

AdaptedPart = Literal["tower", "prompts"]
"""What learns: the whole image ``tower``, first, or the mask ``prompts`` alone, after it."""

LARGEST_SCALE = math.log(100)
"""CLIP's scale of cosines, as a logarithm, stays within 0 and this."""


class MaskAdaptation(nn.Module):
    """An image tower that learns from pairs of a region and a noun; the text tower stays as it is.

    The scale of cosines trains in both steps: locking the towers leaves it free in the release.

    Args:
        tower: CLIP's image tower; a copy of it learns or stays frozen, itself it is not changed.
        part: See :data:`AdaptedPart`.
        prompt_depth: Of the prompt tokens, with ``prompts``.
        logit_scale: Logarithm of the scale of cosines at the start.
    """

    def __init__(
        self,
        tower: ImageTower,
        part: AdaptedPart,
        *,
        prompt_depth: int = 3,
        logit_scale: float = LARGEST_SCALE,
    ) -> None:
        super().__init__()
        learning = copy.deepcopy(cast(nn.Module, tower))
        self.tower = learning.requires_grad_(requires_grad=part == "tower")
        self.prompts: MaskPrompts | None = None
        if part == "prompts":
            self.prompts = MaskPrompts(tower, prompt_depth)
            self.prompts.start()
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale))

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What learns, in groups for AdamW; everything of one axis or none is exempt from decay unless ``decay_norms``."""
        return group_parameters(self.named_parameters(), optim)

    def forward(self, regions: Tensor, masks: Tensor, texts: Tensor) -> Tensor:
        """The loss of a batch of pairs.

        Args:
            regions: ``(B, 3, S, S)`` normalised, S the tower's native size.
            masks: ``(B, S, S)`` bool; of stored pictures :func:`~lexiseg.ops.region_crops.not_filled` gives them.
            texts: ``(B, E)`` embeddings of the nouns, no gradient.
        """
        tower = cast(ImageTower, self.tower)
        vectors = tower(regions) if self.prompts is None else self.prompts(tower, regions, masks)
        return contrastive_loss(vectors, texts, self.logit_scale)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the scale of cosines where CLIP keeps it; called after every step."""
        self.logit_scale.clamp_(0, LARGEST_SCALE)
