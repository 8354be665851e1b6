"""The words that the flags of ``predict`` and ``compare`` hold."""

import argparse

from rich.console import Console
from rich.markup import escape

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.inference.background import with_background

_TOLD = 12
_KNOWN_TOLD = 40
_LETTERS = 40


def read_vocabulary(args: argparse.Namespace) -> Vocabulary:
    """The words of the flags; those of the background are checked against them and left to the pipeline.

    Raises:
        ConfigError: No, empty or repeated names, or an unreadable file.
    """
    if args.classes_file is not None:
        vocabulary = Vocabulary.from_file(args.classes_file)
    else:
        vocabulary = Vocabulary.from_text(args.classes)
    if args.background is not None:
        with_background(vocabulary, args.background)  # says what is wrong before a model is loaded
    return vocabulary


def warn_unknown(console: Console, clip: FrozenCLIP, vocabulary: Vocabulary) -> None:
    """Say which words a small CLIP has never read: for them its answer means nothing."""
    unknown = clip.unknown_words(tuple(word for group in vocabulary.words for word in group))
    if not unknown:
        return
    told = [word if len(word) <= _LETTERS else f"{word[:_LETTERS]}…" for word in unknown[:_TOLD]]
    if len(unknown) > _TOLD:
        told.append(f"and {len(unknown) - _TOLD} more")
    known = ", ".join(sorted(clip.known_words or ())[:_KNOWN_TOLD])
    console.print(
        f"[yellow]warning:[/yellow] the CLIP '{escape(clip.source)}' has never read "
        f"{escape(', '.join(told))}; its answer for that means nothing. It knows: {escape(known)}"
    )
