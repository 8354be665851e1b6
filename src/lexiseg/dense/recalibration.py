"""Text-guided recalibration (TGR) around any dense encoder whose logits are cosines (TG-CLIP section 1.3)."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.dense.base import BoundState, DenseReading, cosines
from lexiseg.errors import ConfigError
from lexiseg.ops.recalibration import recalibrate_features, recalibrate_logits
from lexiseg.types import Activation, MaskedSegmentable, MaskOutput, PictureReader, Redrawing


def require_pull(strength: float = 0.1, temperature: float = 2.0) -> None:
    """Refuse a λ or a τ that is out of range.

    Raises:
        ConfigError: Says which are allowed.
    """
    if strength < 0:
        raise ConfigError(f"text-guided recalibration: expected a strength of at least 0, got {strength}")
    if temperature <= 0:
        raise ConfigError(f"text-guided recalibration: expected a temperature above 0, got {temperature}")


class Recalibrated(nn.Module):
    """A dense encoder whose patches are pulled towards the words before they are compared with them.

    ``V' = normalize(V + λ softmax(V Zᵀ / τ) Z)``, logits ``V' Zᵀ`` (TG-CLIP eq. 9 to 13), on the patch tokens
    of each window and view, before any upsampling. Up to as many words as channels the logits and the words'
    Gram matrix suffice; beyond that the features are recalibrated and the words run in chunks. Both give the
    same.

    The paper's text recalibrates "the upsampled representation" (eq. 4 and 5, and section 1.3's first sentence on V) of
    each view before views are fused. ``after_upsampling`` does that: the patch features of a view's windows are brought to
    the photograph's pixels, overlaps averaged, and eq. 9 to 13 hold there. It costs a word's work for every channel.

    The paper does not state λ: 0.1 here is a placeholder to sweep. Its τ of 2 on cosines makes the softmax
    almost uniform, which is why its table 6 is flat. The "confidence and neighbourhood weights" that its text
    mentions have no equation and are not built.

    Args:
        encoder: Any dense encoder with ``cosine_logits``.
        strength: λ; 0 gives the encoder's own logits, bit for bit.
        temperature: τ, above 0.
        unit_features: Take V in eq. 12 at unit length, as eq. 9 defines it; otherwise as the encoder gives
            it, which is what eq. 12 says to the letter.
        after_upsampling: Recalibrate at the photograph's pixels; :meth:`decode` and :meth:`features` then still answer for
            patches, where nothing is upsampled.

    Raises:
        ConfigError: An encoder whose logits are no cosines, or a setting out of range.
    """

    words_together = False
    names_regions = False
    activation: Activation = "linear"
    offers_features = True

    def __init__(
        self,
        encoder: DenseReading,
        *,
        strength: float = 0.1,
        temperature: float = 2.0,
        unit_features: bool = True,
        after_upsampling: bool = False,
    ) -> None:
        super().__init__()
        if not getattr(encoder, "cosine_logits", False):
            raise ConfigError(
                f"text-guided recalibration needs logits that are cosines of patch features and words; "
                f"{type(encoder).__name__} gives others. Leave recalibration out, or choose a dense encoder "
                "such as sc-clip (for clip-surgery: feature_surgery=false; for maskclip: both thresholds 0)"
            )
        require_pull(strength, temperature)
        self.encoder = encoder
        self.strength = strength
        self.temperature = temperature
        self.unit_features = unit_features
        self.after_upsampling = after_upsampling
        self.reads_pixels = after_upsampling and strength > 0
        self.patch_size = encoder.patch_size
        self.cosine_logits = True
        self.whole_picture = encoder.whole_picture
        self.redraws = bool(getattr(encoder, "redraws", False))
        self.needs = encoder.needs
        self.depends_on_text = strength > 0 or encoder.depends_on_text

    @property
    def told(self) -> dict[str, float | bool]:
        """Its settings as plain values, for result files."""
        return {
            "strength": self.strength,
            "temperature": self.temperature,
            "unit_features": self.unit_features,
            "after_upsampling": self.after_upsampling,
        }

    def normalize(self, images: Tensor) -> Tensor:
        """As the encoder does."""
        return self.encoder.normalize(images)

    def encode(self, images: Tensor, regions: Tensor | None = None) -> Any:
        """As the encoder does, inside regions if it needs them: the words come later."""
        if regions is None:
            return self.encoder.encode(images)
        return cast(MaskedSegmentable, self.encoder).encode(images, regions=regions)

    @property
    def one_label_per_region(self) -> bool:
        """As the encoder has it."""
        return bool(getattr(self.encoder, "one_label_per_region", False))

    def region_map(self, masks: Tensor) -> Tensor:
        """As the encoder wants it, which needs masks."""
        return cast(MaskedSegmentable, self.encoder).region_map(masks)

    def gather(
        self,
        states: Sequence[Any],
        merge: Callable[[Tensor], Tensor],
        picture: Tensor,
        regions: Tensor | None = None,
    ) -> Any:
        """As an encoder that is a :class:`~lexiseg.types.PictureReader` does."""
        return cast(PictureReader, self.encoder).gather(states, merge, picture, regions)

    def redraw_labels(
        self, state: Any, labels: Tensor, maps: Callable[[int], Tensor], classes: int
    ) -> tuple[Tensor, Tensor]:
        """As an encoder that is a :class:`~lexiseg.types.Redrawing` does."""
        return cast(Redrawing, self.encoder).redraw_labels(state, labels, maps, classes)

    def features(self, state: Any, text: Tensor | None = None) -> Tensor:
        """Unit features ``(B, E, h, w)`` recalibrated by these words; without words, the encoder's own."""
        features = self.encoder.features(state, text)
        if text is None or self.strength == 0:
            return features
        return self.pull(features.flatten(2), text).unflatten(2, features.shape[-2:])

    def pixel_features(self, state: Any, text: Tensor) -> Tensor:
        """The encoder's own ``(B, E, h, w)``, which are to be upsampled before they are recalibrated."""
        return self.encoder.features(state, text)

    def pull(self, features: Tensor, text: Tensor) -> Tensor:
        """Features ``(B, E, N)`` of patches or pixels, of any length, recalibrated by all words; unit length."""
        flat = features.float()
        return recalibrate_features(
            F.normalize(flat, dim=1),
            text.float(),
            strength=self._strength(flat),
            temperature=self.temperature,
        )

    def bind(self, state: Any, text: Tensor) -> Any:
        """State for which ``decode`` may be called with parts of ``text``: the recalibration is done."""
        return (
            self.encoder.bind(state, text) if self.strength == 0 else BoundState(self.features(state, text))
        )

    def decode(self, state: Any, text: Tensor) -> MaskOutput:
        """Recalibrated cosines ``(B, K, h, w)``; all words at once unless the state is bound."""
        if self.strength == 0:
            return self.encoder.decode(state, text)
        if isinstance(state, BoundState):
            return MaskOutput(cosines(state.features, text))
        if len(text) > text.shape[1]:
            return MaskOutput(cosines(self.features(state, text), text))
        features = self.encoder.features(state, text)
        words = text.float()
        pulled = recalibrate_logits(
            cosines(features, words).flatten(2),
            words @ words.T,
            strength=self._strength(features.float().flatten(2)),
            temperature=self.temperature,
        )
        return MaskOutput(pulled.unflatten(2, features.shape[-2:]))

    def _strength(self, features: Tensor) -> float | Tensor:
        """λ for unit features: adding λ R to a feature of length n is adding λ / n to its unit form."""
        if self.unit_features:
            return self.strength
        return self.strength / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
