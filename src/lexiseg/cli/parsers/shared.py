"""What parsers are made of: commands with examples, and the flags that several commands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from lexiseg.clip.templates import TEMPLATE_SETS
from lexiseg.lazy import locate

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command is added to."""


def add_command(
    commands: Commands,
    name: str,
    run: str | None = None,
    *,
    told: str,
    description: str | None = None,
    examples: str = "",
) -> argparse.ArgumentParser:
    """Add a command whose help keeps its line breaks.

    Args:
        commands: Of the parser above.
        name: As typed.
        run: Place of the function that does the work, ``module:function``; takes the flags, returns the exit status. None for
            a command that has commands of its own.
        told: One line for the list of commands.
        description: What stands above the flags.
        examples: What stands below them.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=told,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if run is not None:
        parser.set_defaults(func=later(run))
    return parser


def later(place: str) -> Callable[..., int]:
    """A function that is imported when it is called."""

    def call(*args: object, **kwargs: object) -> int:
        return int(locate(place)(*args, **kwargs))

    return call


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
