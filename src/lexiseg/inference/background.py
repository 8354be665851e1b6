"""What happens to pixels that match none of the user's words: a class of negative words takes them."""

from collections.abc import Sequence
from dataclasses import replace

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError

BACKGROUND = "background"


def negative_words(words: str | Sequence[str]) -> tuple[str, ...]:
    """The words of a background, from a list or from a text with commas or semicolons between them."""
    return tuple(words.replace(";", ",").split(",")) if isinstance(words, str) else tuple(words)


def with_background(vocabulary: Vocabulary, words: str | Sequence[str]) -> Vocabulary:
    """Put a background class before the others, as the protocol's ``background="class"`` expects it.

    Args:
        vocabulary: The classes looked for.
        words: What else may be in a picture, such as "wall", "sky". Words that are themselves looked for are
            left out, so that one long list serves every vocabulary.

    Raises:
        ConfigError: No word is left, or a class is itself called "background".
    """
    taken = {word.strip().lower() for group in vocabulary.words for word in group}
    if BACKGROUND in taken:
        raise ConfigError(
            "'background' is one of the classes already; leave it out of them or give no negative words"
        )
    negative = [
        word.strip()
        for word in negative_words(words)
        if word.strip() and word.strip().lower() not in {*taken, BACKGROUND}
    ]
    unique = tuple(dict.fromkeys(word.lower() for word in negative))
    if not unique:
        raise ConfigError(
            'no word is left for the background that is not a class itself; give some, such as "wall, floor, sky"'
        )
    return replace(vocabulary, words=((BACKGROUND, *unique), *vocabulary.words))
