"""Learnable class prompts: names that nobody gave, as centres of mask clusters (PixelCLIP)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lexiseg.clip.tokenizer import TextTooLongError
from lexiseg.clip.towers.text import TextTower

_RESERVED_TOKENS = 10
"""Last ids of a vocabulary that no prompt starts from: begin and end markers, and rare tokens (as released)."""


class ClusterPrompts(nn.Module):
    """K made-up class names of L learnable tokens each, inside a sentence, through the frozen text tower.

    Their embeddings live where CLIP's words live, so clusters stay comparable with words and with each other.

    Args:
        text_tower: The frozen text tower; no part of this module.
        count: K.
        length: L.
        template: Sentence with one ``{}``.
        vocabulary: Words whose tokens the prompts start from; none: any token.
        seed: Of the draw.
        trained: Whether the tokens train.

    Raises:
        TextTooLongError: Sentence and prompt together are longer than the tower reads.
    """

    prefix: Tensor
    suffix: Tensor

    def __init__(
        self,
        text_tower: TextTower,
        *,
        count: int,
        length: int,
        template: str,
        vocabulary: Sequence[str] = (),
        seed: int = 0,
        trained: bool = True,
    ) -> None:
        super().__init__()
        self._text_tower = (text_tower,)  # in a tuple: frozen, so no submodule and in no checkpoint
        before, after = template.split("{}")
        self.register_buffer("prefix", _tokens(text_tower, before)[:-1], persistent=False)
        self.register_buffer("suffix", _tokens(text_tower, after)[1:], persistent=False)
        total = len(self.prefix) + length + len(self.suffix)
        if total > text_tower.context_length:
            raise TextTooLongError(template, tokens=total, limit=text_tower.context_length)
        words = initial_words(text_tower, (count, length), vocabulary=vocabulary, seed=seed)
        start = text_tower.embed_tokens(words.to(text_tower.device)).detach().clone()
        self.tokens = nn.Parameter(start, requires_grad=trained)

    @property
    def text_tower(self) -> TextTower:
        """The frozen text tower."""
        return self._text_tower[0]

    def _apply(self, fn, recurse: bool = True) -> "ClusterPrompts":  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Take the text tower along to another device or type."""
        self.text_tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self) -> Tensor:
        """Text embeddings ``(K, E)`` of all prompts, not normalised."""
        tower = self.text_tower
        before, after = (
            tower.embed_tokens(ids).expand(len(self.tokens), -1, -1) for ids in (self.prefix, self.suffix)
        )
        sentences = torch.cat([before, self.tokens, after], dim=1)
        return tower.forward_embedded(sentences, end=sentences.shape[1] - 1)


def initial_words(
    text_tower: TextTower, shape: tuple[int, int], *, vocabulary: Sequence[str] = (), seed: int = 0
) -> Tensor:
    """Random token ids ``shape`` that prompts start from: of ``vocabulary``'s words, or any (as released)."""
    generator = torch.Generator().manual_seed(seed)
    if vocabulary:
        pool = torch.cat([_tokens(text_tower, word)[1:-1] for word in vocabulary]).unique()
        return pool[torch.randint(len(pool), shape, generator=generator)]
    return torch.randint(max(text_tower.vocabulary_size - _RESERVED_TOKENS, 1), shape, generator=generator)


def _tokens(text_tower: TextTower, text: str) -> Tensor:
    """Token ids of a piece of text with begin and end marker, without padding."""
    empty, ids = text_tower.tokenizer(["", text], text_tower.context_length)
    end = int((ids == empty[1]).nonzero()[0])  # an empty text is begin marker, end marker, padding
    return ids[: end + 1]
