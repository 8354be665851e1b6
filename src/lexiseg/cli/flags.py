"""Flags that ``predict`` and ``compare`` share, and the words that they hold."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.templates import TEMPLATE_SETS
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.inference.background import with_background

_TOLD = 12
_KNOWN_TOLD = 40
_LETTERS = 40


def add_photos(parser: argparse.ArgumentParser) -> None:
    """The photographs."""
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help='files, folders (their images), or globs such as "photos/**/*.jpg"',
    )


def add_words(parser: argparse.ArgumentParser) -> None:
    """The classes, and what else may be in the picture."""
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument("--classes", metavar="WORDS", help='class names separated by commas, synonyms by ";"')
    words.add_argument("--classes-file", metavar="FILE", help='one class a line, synonyms separated by ";"')
    parser.add_argument(
        "--background",
        metavar="WORDS",
        help="what else may be there: a background class takes such pixels",
    )


def add_clip(parser: argparse.ArgumentParser) -> None:
    """The CLIP and the sentences that words are put into."""
    parser.add_argument(
        "--clip",
        metavar="NAME|PATH",
        help="hub name, folder or file of CLIP weights, or toy (default: hub ViT-B/16)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="for CLIP files that bring none: bpe_simple_vocab_16e6.txt.gz or a folder",
    )
    parser.add_argument(
        "--templates",
        metavar="NAME",
        help=f"prompt templates: {', '.join(TEMPLATE_SETS)} (default: as published, or as trained)",
    )


def add_place(parser: argparse.ArgumentParser, *, out: str) -> None:
    """Where results go, and what computes them."""
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path(out), help=f"result folder (default: {out})"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")


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
