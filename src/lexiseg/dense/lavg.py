"""LaVG: objects first, words last: every mask is matched as a whole (Kang and Cho, ECCV 2024)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.dense.base import DenseState, cosines
from lexiseg.dense.sclip import SCLIP
from lexiseg.errors import ConfigError
from lexiseg.ops.grid import PositionMode
from lexiseg.ops.late_matching import first_region, match_late, silence_foreground
from lexiseg.ops.mask_pooling import pool_by_masks
from lexiseg.types import BlockTower, MaskOutput, Needs


@dataclass(frozen=True)
class LaVGState(DenseState):
    """Unit features of SCLIP's reading, and what was found under the regions.

    Attributes:
        means: ``(B, M, E)`` mean feature of each region, not of unit length.
        owners: ``(B, H, W)`` which region each pixel belongs to, or none.
    """

    means: Tensor
    owners: Tensor


class LaVG(SCLIP):
    """SCLIP's reading, whose pixels take the mean of the logits of the region that they lie in.

    With f the unit patch features, brought bilinearly to the window's pixels, ``L(p) = mean of f over the region of p · t``:
    the words are matched late, against whole regions. Where regions overlap, the first decides (its mean is over all of
    its pixels, the overlap included); the rest of the photograph is a region too. Read without regions it is SCLIP.

    The release cuts the photograph into masks beforehand (:mod:`lexiseg.masks.normalized_cut`); any masks will do.

    Args:
        tower: The frozen image tower.
        background_words: The release's rule for Pascal VOC with background: how many of the first words name the background.
            All other words then score, on the rest of the photograph, the least logit of the window; all words must be
            compared at once. 0: no such rule, as on every other data set.
        position_mode: How the position embedding reaches other grids.

    Raises:
        ConfigError: A negative number of words.
    """

    cosine_logits = False
    needs = Needs(masks=True)
    one_label_per_region = False

    def __init__(
        self,
        tower: BlockTower,
        *,
        background_words: int = 0,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        if background_words < 0:
            raise ConfigError(f"lavg: expected background_words of at least 0, got {background_words}")
        self.background_words = background_words
        self.cells_per_patch = self.patch_size**2
        self.depends_on_text = self.words_together = background_words > 0

    def region_map(self, masks: Tensor) -> Tensor:
        """``(M + 1, H, W)`` int8, 1 where a mask is, of ``(M, H, W)`` bool: the rest of the photograph, then every mask."""
        return torch.cat([~masks.any(dim=0, keepdim=True), masks]).to(torch.int8)

    def encode(self, images: Tensor, regions: Tensor | None = None) -> DenseState:
        """Run the tower once.

        Args:
            images: Normalised ``(B, 3, H, W)``.
            regions: ``(B, M + 1, H, W)`` as :meth:`region_map` has them, 1 where a region is; padding lies in none.
        """
        unit = F.normalize(super().encode(images).features.float(), dim=1)
        if regions is None:
            return DenseState(unit)
        inside, (count, each) = regions == 1, regions.shape[:2]
        image_of_mask = torch.arange(count, device=regions.device).repeat_interleave(each)
        with torch.autocast(images.device.type, enabled=False):  # sums over many pixels
            means = pool_by_masks(unit, inside.flatten(0, 1), image_of_mask).unflatten(0, (count, each))
        return LaVGState(unit, means, first_region(inside))

    def bind(self, state: DenseState, text: Tensor) -> DenseState:
        """The state itself.

        Raises:
            ConfigError: With the rule for the background, which compares all words in one call.
        """
        if self.background_words:
            raise ConfigError(
                "lavg: background_words compares all words at once; decode them in one call, or set background_words=0"
            )
        return super().bind(state, text)

    def decode(self, state: DenseState, text: Tensor) -> MaskOutput:
        """Logits ``(B, K, H, W)`` at the window's pixels; without regions cosines on the patch grid."""
        own = cosines(state.features, text)
        if not isinstance(state, LaVGState):
            return MaskOutput(own)
        logits = match_late(own, state.means @ text.float().T, state.owners)
        if self.background_words:
            logits = silence_foreground(logits, state.owners == 0, first=self.background_words)
        return MaskOutput(logits)
