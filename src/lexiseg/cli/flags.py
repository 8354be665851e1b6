"""The words, the settings of methods and the model that the flags of several commands hold."""

import argparse
from typing import Any

from rich.console import Console
from rich.markup import escape

from lexiseg.cli.composing import read_value
from lexiseg.cli.parsers.shared import METHOD
from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.inference.background import negative_words, with_background
from lexiseg.inference.pictures import require_writable
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.words import tell_unknown
from lexiseg.recipes.method_settings import assigned, own_settings

_MODEL = ("checkpoint", "clip", "tokenizer", "method", "templates", "device", "trusted")


def read_vocabulary(args: argparse.Namespace) -> Vocabulary:
    """The words of the flags; those of the background are checked against them and left to the pipeline.

    Raises:
        LexisegError: No, empty or repeated names, more than a label map holds, or an unreadable file.
    """
    if args.classes_file is not None:
        vocabulary = Vocabulary.from_file(args.classes_file)
    else:
        vocabulary = Vocabulary.from_text(args.classes)
    if args.background is not None:
        with_background(vocabulary, args.background)  # says what is wrong before a model is loaded
    require_writable(len(vocabulary) + 1)
    return vocabulary


def read_settings(args: argparse.Namespace, *models: str) -> dict[str, Any]:
    """The settings of methods that are given; ``models`` are further flags that are settings.

    Raises:
        ConfigError: A setting without a value.
    """
    named = (*(flag.destination for flag in METHOD.flags if flag.name != "--set"), *models)
    given = {name: getattr(args, name) for name in named if getattr(args, name) is not None}
    return assigned(args.settings or (), given, read_value)


def read_pipeline(args: argparse.Namespace) -> Pipeline:
    """The model that the flags of a command name, as ``predict`` has them.

    Raises:
        LexisegError: As :meth:`Pipeline.load` raises it, or a setting that means nothing.
    """
    given = {name: getattr(args, name) for name in _MODEL}
    learned = getattr(args, "adapted", None)  # the command that learns it has no such flag
    return Pipeline.load(**given, adapted=learned, settings=read_own_settings(args))


def read_own_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the one method that these flags read by.

    Raises:
        ConfigError: A setting without a value, or of another method.
    """
    return own_settings(read_settings(args, "proxy", "sam", "bank"), args.method)


def warn_unknown(console: Console, clip: FrozenCLIP, args: argparse.Namespace, words: Vocabulary) -> None:
    """Say which of the words that the user gave a small CLIP has never read."""
    told = tell_unknown(clip, words, () if args.background is None else negative_words(args.background))
    if told:
        console.print(f"[yellow]warning:[/yellow] {escape(told)}")
