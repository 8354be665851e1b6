"""How OVSeg teaches CLIP to read regions cut out of their surroundings, on pairs of a region and a noun (sec. 3.3)."""

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lexiseg.losses.image_text_contrast import contrastive_loss
from lexiseg.models.parameter_groups import group_parameters
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from lexiseg.plain_settings import require_plain_settings, within
from lexiseg.types import GroupSettings, ImageTower

AdaptedPart = Literal["tower", "prompts"]
"""What learns: the whole image ``tower``, first, or the mask ``prompts`` alone, after it."""

LARGEST_SCALE = math.log(100)
"""CLIP's scale of cosines, as a logarithm, stays within 0 and this."""


@dataclass(frozen=True)
class AdaptationSettings:
    """What learns.

    Attributes:
        name: See :data:`AdaptedPart`.
        prompt_depth: Of the prompt tokens, with ``prompts``.
    """

    name: AdaptedPart = "tower"
    prompt_depth: int = within(3, at_least=1)

    def __post_init__(self) -> None:
        """Reject what nothing learns by; ``ConfigError`` names it."""
        require_plain_settings(self, "model")


class MaskAdaptation(nn.Module):
    """An image tower that learns from pairs of a region and a noun; the text tower stays as it is.

    The scale of cosines trains in both steps: locking the towers leaves it free in the release.

    Args:
        tower: CLIP's image tower; itself it is not changed. With ``tower`` a copy of it learns; with ``prompts`` it is read as
            it is and is no submodule.
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
        self._frozen: tuple[ImageTower, ...] = ()
        self.prompts: MaskPrompts | None = None
        if part == "tower":
            learning = copy.deepcopy(cast(nn.Module, tower))
            self.learning = learning.requires_grad_(requires_grad=True)
        else:
            self._frozen = (tower,)
            self.prompts = MaskPrompts(tower, prompt_depth)
            self.prompts.start()
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale))

    @property
    def tower(self) -> ImageTower:
        """The image tower as it is now."""
        return self._frozen[0] if self._frozen else cast(ImageTower, self.learning)

    def _apply(self, fn, recurse: bool = True) -> "MaskAdaptation":  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Take a frozen tower along to another device or type."""
        for tower in self._frozen:
            cast(nn.Module, tower)._apply(fn, recurse)
        return super()._apply(fn, recurse)

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
        return contrastive_loss(self.read(regions, masks), texts, self.logit_scale)

    def read(self, regions: Tensor, masks: Tensor) -> Tensor:
        """Embeddings ``(B, E)`` of regions, not normalised; shapes as of :meth:`forward`."""
        if self.prompts is None:
            return self.tower(regions)
        return cast(Tensor, self.prompts(self.tower, regions, masks))

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the scale of cosines where CLIP keeps it; called after every step."""
        self.logit_scale.clamp_(0, LARGEST_SCALE)
