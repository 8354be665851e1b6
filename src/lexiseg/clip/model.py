"""A CLIP of any family, frozen: both towers, with what identifies it."""

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from lexiseg.clip.families import family_of
from lexiseg.clip.formats.huggingface import colors_of
from lexiseg.clip.tokenizer import TextTokenizer
from lexiseg.clip.towers.text import TextTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import ConfigError, LexisegError

DEFAULT_CLIP = "openai/clip-vit-base-patch16"
"""The published methods' tower, by its hub name."""

_FINGERPRINT_LENGTH = 16


class FrozenCLIP(nn.Module):
    """Both frozen towers of one CLIP, with what identifies it.

    Args:
        model: transformers' model of both towers, or the weights of a CLIP with a ConvNeXt or a ResNet.
        tokenizer: Of its words; without one there is no text tower.
        source: What the user named: hub name, folder or file.
        known_words: The words that a small CLIP has ever read; None for one that may know any.
        preparation: What its folder says of how photographs are prepared; None where nothing does.

    Attributes:
        family: Which kind of CLIP it is.
        tower: The image tower; see :class:`~lexiseg.types.ImageTower`.
        text_tower: The text tower, or None where a file or the caller brought none.
        logit_scale: Scale of cosines in its own training, usually 100; 1 where words are no vectors.
        logit_bias: What is added to scaled cosines before a sigmoid; None for one trained by softmax, without bias.
        scalars: Its single numbers, such as the scale's logarithm, by name, exactly as the weights hold them.
        config: transformers' description of both towers.
        fingerprint: Hash of all weights; equal for the same weights in any file format.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: TextTokenizer | None,
        *,
        source: str,
        known_words: frozenset[str] | None = None,
        preparation: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.fingerprint = fingerprint(model)
        self.family = family_of(model)
        self.tower: Any = self.family.image_tower(model, colors=colors_of(preparation, self.family.colors))
        self.text_tower = None if tokenizer is None else self.family.text_tower(model, tokenizer)
        self.config = model.config
        self.scalars = {name: value.detach().clone() for name, value in model.named_parameters(recurse=False)}
        self.logit_scale = _scale(self.scalars)
        self.logit_bias = float(self.scalars["logit_bias"]) if "logit_bias" in self.scalars else None
        self.source = source
        self.known_words = known_words
        self.preparation = preparation
        self.eval()

    def train(self, mode: bool = True) -> "FrozenCLIP":
        """Stay in evaluation mode whatever the surrounding model does: a frozen tower has no training mode."""
        return super().train(mode=False)

    @property
    def vision(self) -> VisionTower:
        """The image tower where learned prompts can enter between its blocks: CLIP's and MetaCLIP 2's ViT.

        Raises:
            ConfigError: It is another kind of tower; :attr:`tower` gives it.
        """
        if not self.tower.takes_prompts:
            raise ConfigError(
                f"the CLIP '{self.source}' has a {self.tower.kind} image tower, which cannot take learned prompts between "
                f"blocks led by one class token; this needs a CLIP with a ViT, such as {DEFAULT_CLIP}"
            )
        return cast(VisionTower, self.tower)

    def require_text(self) -> TextTower:
        """The text tower.

        Raises:
            LexisegError: This CLIP was loaded without one.
        """
        if self.text_tower is None:
            raise LexisegError(
                f"the CLIP '{self.source}' has no tokenizer, so words cannot be encoded; give clip.tokenizer: a Hugging "
                "Face CLIP folder or name, or the path of OpenAI's bpe_simple_vocab_16e6.txt.gz"
            )
        return self.text_tower

    def unknown_words(self, names: list[str] | tuple[str, ...]) -> list[str]:
        """Names holding a word that this CLIP has never read; always empty for a CLIP that may know any."""
        if self.known_words is None:
            return []
        return [name for name in names if not set(name.lower().split()) <= self.known_words]


def fingerprint(model: nn.Module) -> str:
    """Hash of all weights under transformers' names, in float32: the same for the same weights from any format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith("position_ids"):
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().float().contiguous().cpu().numpy().data)
    return digest.hexdigest()[:_FINGERPRINT_LENGTH]


def _scale(scalars: Mapping[str, Tensor]) -> float:
    """Factor on cosines: the exponential of a learned logarithm (CLIP, SigLIP) or one over a temperature (TIPS)."""
    if "temperature" in scalars:
        return 1 / float(scalars["temperature"])
    return float(scalars["logit_scale"].exp()) if "logit_scale" in scalars else 1.0
