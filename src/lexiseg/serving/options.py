"""What a request asks for beside its photograph, from the text of its parts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.inference.background import negative_words, with_background
from lexiseg.serving.limits import Limits

Output = Literal["json", "labels", "overlay", "scores"]
"""What comes back: JSON with run lengths, or one of the PNGs that a result can be."""

OPTION_NAMES = ("words", "background", "threshold", "refine", "output")
MOST_ROUNDS = 100
"""Of a refinement."""


@dataclass(frozen=True)
class Rules:
    """Everything that a segmenter is made of; requests of the same rules share batches.

    Attributes:
        words: Classes with their synonyms.
        background: Words of the background; None: as the model has it.
        threshold: From 0 to below 1; None: the model's own.
        refine: Rounds of PAMR; None: the model's own.
    """

    words: Vocabulary
    background: tuple[str, ...] | None = None
    threshold: float | None = None
    refine: int | None = None


def read_options(texts: Mapping[str, str], limits: Limits) -> tuple[Rules, Output]:
    """Rules, and what comes back, from a form.

    Raises:
        ConfigError: No words, too many, or an option out of its range.
    """
    words = Vocabulary.from_text(texts.get("words", ""))
    background = None
    if texts.get("background", "").strip():
        background = negative_words(texts["background"])
        with_background(words, background)  # says what is wrong before anything waits
    count = sum(map(len, words.words)) + len(background or ())
    if count > limits.words:
        raise ConfigError(f"words: {count} were given, at most {limits.words} are read; give fewer")
    output = texts.get("output", "json")
    if output not in get_args(Output):
        raise ConfigError(f"output: expected one of {', '.join(get_args(Output))}, got '{output[:40]}'")
    rules = Rules(words, background, _threshold(texts.get("threshold")), _rounds(texts.get("refine")))
    return rules, cast(Output, output)


def _threshold(text: str | None) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise ConfigError(f"threshold: expected a number from 0 to below 1, got '{text[:40]}'")
    return value


def _rounds(text: str | None) -> int | None:
    if text is None or not text.strip():
        return None
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= MOST_ROUNDS:
        raise ConfigError(f"refine: expected a whole number from 0 to {MOST_ROUNDS}, got '{text[:40]}'")
    return value
