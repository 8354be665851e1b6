"""Words with what a few photographs taught about them, as a segmenter uses it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lexiseg.checkpoints.word_adaptation import WordAdaptation
from lexiseg.clip.vocabulary import TextEmbeddings, Vocabulary
from lexiseg.errors import ConfigError

_NAMED = 6


@dataclass(frozen=True)
class AdaptedWords:
    """An adaptation brought to the words of a vocabulary.

    Attributes:
        vectors: ``(M, D)`` text embeddings in the adaptation's templates.
        prototypes: ``(M, D)``; None where no word has any.
        scale: ``(M,)`` factor on the logits, the temperature in it.
        offset: ``(M,)`` added to them, likewise.
        shown: ``(K,)`` bool, the classes that were shown. Only pixels that one of these won without adaptation may change.
        threshold_before: The threshold that held without adaptation.
    """

    vectors: Tensor
    prototypes: Tensor | None
    scale: Tensor
    offset: Tensor
    shown: Tensor
    threshold_before: float = 0.0

    def names(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """The classes that were shown, for result files."""
        return tuple(name for name, shown in zip(vocabulary.names, self.shown.tolist(), strict=True) if shown)

    def logits(self, text: Tensor, looks: Tensor | None, words: slice) -> Tensor:
        """Adapted logits.

        Args:
            text: ``(W, m, h, w)`` logits of some words.
            looks: ``(W, m, h, w)`` products of unit features and their prototypes; None without prototypes.
            words: Which they are.
        """
        scale, offset = (each[words].to(text.device)[:, None, None] for each in (self.scale, self.offset))
        adapted = text * scale + offset
        return adapted if looks is None else adapted + looks


def adapt_words(
    adaptation: WordAdaptation,
    vocabulary: Vocabulary,
    embed: Callable[[Vocabulary], TextEmbeddings],
    *,
    threshold_before: float = 0.0,
) -> AdaptedWords:
    """Bring an adaptation to a vocabulary, word by word, whatever their case; other words only get the temperature.

    Args:
        adaptation: What was learned.
        vocabulary: The words asked for.
        embed: Embeds them in other templates.
        threshold_before: As in :class:`AdaptedWords`.

    Raises:
        ConfigError: No word of the vocabulary was shown.
    """
    place = {word.strip().lower(): index for index, word in enumerate(adaptation.words)}
    rows = [place.get(word.strip().lower(), -1) for group in vocabulary.words for word in group]
    if max(rows) < 0:
        told = ", ".join(adaptation.words[:_NAMED]) + (" …" if len(adaptation.words) > _NAMED else "")
        raise ConfigError(
            f"the adaptation is of {told}, and none of the words asked for is among these; ask for some of them, or leave "
            "the adaptation out"
        )
    index = torch.tensor(rows)
    found, temperature = index >= 0, adaptation.temperature
    scale, offset = adaptation.scale[index], adaptation.offset[index]
    prototypes = adaptation.prototypes[index] * found[:, None] * temperature
    class_ids = torch.tensor([number for number, group in enumerate(vocabulary.words) for _ in group])
    shown = torch.zeros(len(vocabulary), dtype=torch.bool)
    shown[class_ids[found]] = True
    return AdaptedWords(
        embed(Vocabulary(vocabulary.words, adaptation.templates, vocabulary.shared)).vectors,
        prototypes if bool(prototypes.any()) else None,
        torch.where(found, scale, torch.ones_like(scale)) * temperature,
        torch.where(found, offset, torch.zeros_like(offset)) * temperature,
        shown,
        threshold_before,
    )
