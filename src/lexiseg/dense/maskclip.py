"""MaskCLIP: the last block without attention (Zhou, Loy, Dai, ECCV 2022)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.dense.base import DenseEncoder, cosines, finish_block
from lexiseg.errors import ConfigError
from lexiseg.ops.grid import PositionMode, tokens_to_map
from lexiseg.types import BlockTower, MaskOutput

KeyNorm = Literal["release", "paper"]

_REFINEMENT_SCALE = 100.0
"""Scale of cosines inside MaskCLIP's own refinements: CLIP's trained scale, a constant in the release."""

_DENIED_LOGIT = -100.0
"""What prompt denoising gives to a class that it rejects."""


@dataclass(frozen=True)
class MaskCLIPState:
    """Features, and keys where key smoothing needs them.

    Attributes:
        features: ``(B, E, h, w)``, not normalised.
        keys: ``(B, P, D)`` keys of the last block after its output projection, or None.
    """

    features: Tensor
    keys: Tensor | None


class MaskCLIP(DenseEncoder):
    """Every patch keeps its own value: the attention map is the identity.

    ``y = x + O(v)``, ``y += FFN(LN y)``, as the release does; ``residual=False, feed_forward=False`` gives
    ``y = O(v)``, the other reading of the paper, which ClearCLIP's tables use. Its two refinements are
    options: prompt denoising drops classes that are confident nowhere; key smoothing spreads the answers of
    unsure patches along key similarity.

    Differs from the release: that one reads CLIP's weights with exact GELU and layer norms of eps 1e-6 under
    ImageNet colours; here the tower's own activation, eps and CLIP's colours are kept. After key smoothing
    the release returns probabilities and takes their softmax a second time; here they are the logits,
    whatever comes after.

    Args:
        tower: The frozen image tower.
        residual: Keep the block's residual.
        feed_forward: Keep the block's MLP.
        denoising_threshold: Classes whose largest softmax(100·logits) over the image stays below it are
            rejected; 0 leaves all.
        smoothing_threshold: Patches whose largest softmax(100·logits) is below it take the key-weighted sum
            of all patches' probabilities; 0 leaves all. The result is then a probability, not a cosine.
        key_norm: ``release`` divides each key channel by its norm over the patches (a default axis that was
            not meant), ``paper`` each key by its own norm.
        position_mode: How the position embedding reaches other grids.

    Raises:
        ConfigError: A threshold outside [0, 1].
    """

    templates = "surgery85"

    def __init__(
        self,
        tower: BlockTower,
        *,
        residual: bool = True,
        feed_forward: bool = True,
        denoising_threshold: float = 0.0,
        smoothing_threshold: float = 0.0,
        key_norm: KeyNorm = "release",
        position_mode: PositionMode = "bicubic",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        for name, value in (("denoising", denoising_threshold), ("smoothing", smoothing_threshold)):
            if not 0 <= value <= 1:
                raise ConfigError(
                    f"maskclip: expected {name}_threshold in [0, 1], got {value}; 0 switches it off"
                )
        self.residual = residual
        self.feed_forward = feed_forward
        self.denoising_threshold = denoising_threshold
        self.smoothing_threshold = smoothing_threshold
        self.key_norm: KeyNorm = key_norm
        self.depends_on_text = denoising_threshold > 0 or smoothing_threshold > 0
        self.cosine_logits = not self.depends_on_text

    def encode(self, images: Tensor) -> MaskCLIPState:
        """Run all blocks but the last, then its values alone."""
        grid = self.tower.grid(images)
        tokens = self.run_to_last(images)[:, self.prefix :]
        last = self.tower.depth - 1
        normed = self.tower.norm1(last, tokens)
        patches = finish_block(
            self.tower,
            self.tower.value(last, normed),
            tokens,
            residual=self.residual,
            feed_forward=self.feed_forward,
        )
        keys = None
        if self.smoothing_threshold > 0:
            keys = self.tower.attention_output(last, self.tower.key(last, normed))
        return MaskCLIPState(tokens_to_map(self.tower.project(patches), grid), keys)

    def decode(self, state: MaskCLIPState, text: Tensor) -> MaskOutput:
        """Cosines, refined where a threshold says so."""
        logits = cosines(self.features(state), text)
        if self.denoising_threshold > 0:
            logits = deny_unsure_classes(logits, self.denoising_threshold)
        if state.keys is not None:
            logits = smooth_by_keys(logits, state.keys, self.smoothing_threshold, key_norm=self.key_norm)
        return MaskOutput(logits)

    def bind(self, state: MaskCLIPState, text: Tensor) -> MaskCLIPState:
        """The state itself: without refinements no word depends on another.

        Raises:
            ConfigError: With refinements, which compare all classes in one call.
        """
        if self.depends_on_text:
            raise ConfigError(
                f"maskclip: its refinements compare all words at once; {len(text)} words are too many; "
                "use fewer words, or set denoising_threshold=0 and smoothing_threshold=0"
            )
        return state


def deny_unsure_classes(logits: Tensor, threshold: float) -> Tensor:
    """Prompt denoising: classes of ``(B, K, h, w)`` that are sure of no patch fall to -100, per image."""
    sure = (logits * _REFINEMENT_SCALE).softmax(dim=1).amax(dim=(2, 3), keepdim=True) >= threshold
    return torch.where(sure, logits, _DENIED_LOGIT)


def smooth_by_keys(logits: Tensor, keys: Tensor, threshold: float, *, key_norm: KeyNorm) -> Tensor:
    """Key smoothing: unsure patches take ``Σ_j k_i·k_j p_j``, the others keep their probabilities p.

    Args:
        logits: ``(B, K, h, w)`` cosines.
        keys: ``(B, P, D)``.
        threshold: A patch is unsure below this largest probability.
        key_norm: See :class:`MaskCLIP`.

    Returns:
        ``(B, K, h, w)`` not negative where keys agree; a weighted sum, so not a distribution any more.
    """
    probabilities = (logits * _REFINEMENT_SCALE).softmax(dim=1).flatten(2)  # (B, K, P)
    unit = F.normalize(keys, dim=1 if key_norm == "release" else 2)
    smoothed = (probabilities @ unit) @ unit.transpose(1, 2)
    unsure = probabilities.amax(dim=1, keepdim=True) < threshold
    return torch.where(unsure, smoothed, probabilities).unflatten(2, logits.shape[-2:])
