"""CLIP Surgery: v-v attention beside the tower, and class-contrasted similarities (Li et al. 2023, 2025)."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from lexiseg.dense.base import (
    BlockPosition,
    DenseEncoder,
    block_count,
    cosines,
    finish_block,
    require_class_token,
)
from lexiseg.dense.side_stream import BlockReading, run_with_side_stream
from lexiseg.errors import ConfigError
from lexiseg.ops.attention import attend
from lexiseg.ops.grid import PositionMode, tokens_to_map
from lexiseg.types import BlockTower, MaskOutput

_CLASS_SHARPNESS = 2.0
"""Factor on the class token's cosines before their softmax over the words (release, clip.py)."""


@dataclass(frozen=True)
class SurgeryState:
    """Patch features of the side stream and the class token of the ordinary one.

    Attributes:
        features: ``(B, E, h, w)``, not normalised.
        cls: ``(B, E)``, unit length; None where no words are contrasted.
        shared: What all words share, once they are known: see :class:`SharedByWords`.
    """

    features: Tensor
    cls: Tensor | None
    shared: "SharedByWords | None" = None


@dataclass(frozen=True)
class SharedByWords:
    """All that feature surgery needs to know of the other words.

    Attributes:
        log_total: ``(B, 1)`` logarithm of the mean of ``exp(2 cls·t_c)`` over the words.
        mean: ``(B, 1, h, w)`` mean of ``w_c L_ic`` over the words.
    """

    log_total: Tensor
    mean: Tensor


class CLIPSurgery(DenseEncoder):
    """Architecture surgery, then feature surgery.

    Architecture: over the last blocks ``g += O(softmax(v vᵀ s) v)``, without MLP, starting from the tokens
        that enter the
    first of them (paper eq. 4 to 6); the class token is the ordinary stream's. Feature surgery removes what
    all words share: with ``L`` the cosines of patches and words and ``w = C softmax_c(2 cls·t_c)``, ``S_ic =
    w_c L_ic - mean_c' w_c' L_ic'`` (paper eq. 7 to 9, where the mean is taken per channel and then summed,
    which is the same). With the embedding of an empty text as ``redundant``, ``S = f·(t - redundant)``
    instead, which the release uses for a single word.

    Differs from the release: any batch size; a larger input leaves the position embedding as it was.

    Args:
        tower: The frozen image tower.
        blocks: How many last blocks the side stream reads; half the depth, 6 of 12, by default.
        feature_surgery: Contrast the words; otherwise plain cosines.
        redundant: ``(E,)`` what to subtract from every word instead of the mean over the words.
        position_mode: How the position embedding reaches other grids; the release is bilinear.

    Raises:
        ConfigError: No such number of blocks, a ``redundant`` of another length than the joint space, or a tower without
            the class token that weighs the words.
    """

    templates = "surgery85"

    def __init__(
        self,
        tower: BlockTower,
        *,
        blocks: BlockPosition = 0.5,
        feature_surgery: bool = True,
        redundant: Tensor | None = None,
        position_mode: PositionMode = "bilinear",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        if redundant is not None and redundant.shape != (tower.embed_dim,):
            raise ConfigError(
                f"clip-surgery: expected redundant ({tower.embed_dim},), got shape {tuple(redundant.shape)}; "
                "give the text embedding of an empty string"
            )
        self.blocks = block_count(blocks, tower.depth, what="clip-surgery: blocks")
        self.feature_surgery = feature_surgery
        self.redundant: Tensor | None
        self.register_buffer("redundant", redundant, persistent=False)
        self.depends_on_text = feature_surgery and redundant is None
        self.cosine_logits = not feature_surgery
        if self.depends_on_text:
            require_class_token(
                tower, "clip-surgery weighs the words by the class token", "set feature_surgery=false"
            )

    def encode(self, images: Tensor) -> SurgeryState:
        """Run the tower; its last block for the class token only, and only where feature surgery needs it."""
        grid = self.tower.grid(images)
        patches, tokens, last = run_with_side_stream(
            self.tower, self.embed(images), blocks=self.blocks, read=self._read
        )
        features = tokens_to_map(self.tower.project(patches), grid)
        if not self.depends_on_text:
            return SurgeryState(features, None)
        attended = attend(last.query[:, :, :1], last.key, last.value)
        cls = finish_block(self.tower, attended, tokens[:, :1])
        return SurgeryState(features, F.normalize(self.tower.project(cls[:, 0]).float(), dim=-1))

    def bind(self, state: SurgeryState, text: Tensor) -> SurgeryState:
        """Know what all words share, from their weighted sum; words may then be decoded in parts."""
        if state.cls is None:
            return state
        words = text.float()
        scores = _CLASS_SHARPNESS * (state.cls @ words.T)
        log_total = scores.logsumexp(dim=-1, keepdim=True) - math.log(len(words))
        weighted_mean = (scores - log_total).exp() @ words / len(words)  # (B, E)
        unit = F.normalize(state.features.float(), dim=1)
        mean = (weighted_mean[:, None] @ unit.flatten(2)).unflatten(2, unit.shape[-2:])
        return replace(state, shared=SharedByWords(log_total, mean))

    def decode(self, state: SurgeryState, text: Tensor) -> MaskOutput:
        """Class-contrasted similarities; cosines without feature surgery."""
        if self.redundant is not None and self.feature_surgery:
            return MaskOutput(cosines(state.features, text - self.redundant))
        logits = cosines(state.features, text)
        if state.cls is None:
            return MaskOutput(logits)
        shared = state.shared or self.bind(state, text).shared
        if shared is None:
            raise ValueError("expected a state with a class token to be bound")
        weights = (_CLASS_SHARPNESS * (state.cls @ text.float().T) - shared.log_total).exp()
        return MaskOutput(logits * weights[:, :, None, None] - shared.mean)

    def _read(self, block: BlockReading) -> Tensor:
        return attend(block.value[:, :, self.prefix :], block.value, block.value)
