"""What parsers are made of: a command is its help and its flags, said as data; and the flags that several commands share."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from lexiseg.clip.templates import TEMPLATE_SETS
from lexiseg.lazy import locate

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a command is added to."""


@dataclass(frozen=True)
class Flag:
    """A flag, or what stands on the command line without one.

    Attributes:
        name: ``--as-typed``; a positional argument has no dashes.
        shows: What stands for its value in the help; a flag that shows nothing and has no choices is a switch.
        told: Its help; a default is told behind it, unless ``told`` says itself what holds without the flag.
        default: Without the flag.
        kind: Turns the text into the value.
        choices: The only values.
        required: It has to be there.
        more: Further arguments of ``argparse``.
    """

    name: str
    shows: str | None
    told: str
    default: Any = None
    kind: Callable[[str], Any] = str
    choices: Sequence[str] | None = None
    required: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def destination(self) -> str:
        """What its value is called among the parsed ones."""
        return str(self.more.get("dest", self.name.removeprefix("--").replace("-", "_")))

    def add_to(self, parser: "argparse._ActionsContainer") -> None:
        """Add it to a parser, or to a group of one."""
        said = self.default is None or "default: " in self.told
        told = self.told if said else f"{self.told} (default: {self.default})"
        if self.shows is None and self.choices is None:
            parser.add_argument(self.name, action="store_true", help=told, **self.more)
            return
        given: dict[str, Any] = {"required": True} if self.required else {}
        shows = (
            tuple(self.shows.split())
            if self.shows and "nargs" in self.more and " " in self.shows
            else self.shows
        )
        given |= {"type": self.kind, "metavar": shows, "choices": self.choices, "default": self.default}
        parser.add_argument(self.name, help=told, **given, **self.more)


@dataclass(frozen=True)
class Group:
    """Flags that belong together: under a title of their own in the help or, without one, exactly one has to be given."""

    flags: Sequence[Flag]
    title: str | None = None

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add them to a parser."""
        group = parser.add_argument_group(self.title) if self.title else _one_of(parser)
        for flag in self.flags:
            flag.add_to(group)


@dataclass(frozen=True)
class Command:
    """A command of the command line; its help keeps its line breaks.

    Attributes:
        name: As typed.
        told: One line for the list of commands.
        run: Place of the function that does the work, ``module:function``, imported when it is called; takes the flags,
            returns the exit status. None for a command that has commands of its own.
        description: What stands above the flags.
        examples: What stands below them.
        takes: Flags and groups of flags, in the order of the help.
        commands: Its own commands.
    """

    name: str
    told: str
    run: str | None = None
    description: str | None = None
    examples: str = ""
    takes: Sequence[Flag | Group] = ()
    commands: "Sequence[Command]" = ()

    def add_to(self, commands: Commands) -> None:
        """Add it, with its own commands, to a command line."""
        parser: argparse.ArgumentParser = commands.add_parser(
            self.name,
            help=self.told,
            description=self.description,
            epilog=self.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for part in self.takes:
            part.add_to(parser)
        if self.run is not None:
            parser.set_defaults(func=_later(self.run))
        if self.commands:
            own = parser.add_subparsers(dest=f"{self.name}_command", metavar="COMMAND", required=True)
            for command in self.commands:
                command.add_to(own)


def _one_of(parser: argparse.ArgumentParser) -> "argparse._ActionsContainer":
    return parser.add_mutually_exclusive_group(required=True)


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between.

    Raises:
        ArgumentTypeError: Something else.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers separated by commas, got {text}") from None


def _later(place: str) -> Callable[..., int]:
    """A function that is imported when it is called."""

    def call(*args: object, **kwargs: object) -> int:
        return int(locate(place)(*args, **kwargs))

    return call


PHOTOS = Flag(
    "photos",
    "PHOTO",
    'files, folders (their images), or globs such as "photos/**/*.jpg"',
    more={"nargs": "+"},
)

WORDS = (
    Group(
        (
            Flag("--classes", "WORDS", 'class names separated by commas, synonyms by ";"'),
            Flag("--classes-file", "FILE", 'one class a line, synonyms separated by ";"'),
        )
    ),
    Flag("--background", "WORDS", "what else may be there: a background class takes such pixels"),
)
"""The classes, and what else may be in the picture."""

CLIP = Flag("--clip", "NAME|PATH", "hub name, folder or file of CLIP weights, or toy (default: hub ViT-B/16)")

SENTENCES = (
    Flag("--tokenizer", "PATH", "for CLIP files that bring none: bpe_simple_vocab_16e6.txt.gz or a folder"),
    Flag(
        "--templates",
        "NAME",
        f"prompt templates: {', '.join(TEMPLATE_SETS)} (default: as published, or as trained)",
    ),
)
"""What words are put into on their way to the CLIP."""


SECOND_MODELS = (
    Flag("--proxy", "NAME|FOLDER", "second vision model of the methods that take one (default: their own)"),
    Flag("--sam", "NAME|FOLDER", "SAM of the methods that take one (default: their own)"),
    Flag(
        "--bank", "FOLDER", "bank of corrclip, as `lexiseg bank build` wrote it; it brings its second model"
    ),
)
"""What some methods look through beside the CLIP."""

ADAPTED = Flag("--adapted", "FILE", "what `lexiseg adapt` learned of this model's words", kind=Path)
"""What a few photographs taught about words."""

METHOD = Group(
    (
        Flag(
            "--strength",
            "L",
            "pull of patches towards words, lambda, a share of their length (default: 0.1 for tg-clip, others 0)",
            kind=float,
        ),
        Flag("--temperature", "T", "of that pull, tau, on cosines (default: 2)", kind=float),
        Flag(
            "--scales",
            "S,S",
            "factors on the photograph's sides (default: 0.75,1.25 for tg-clip, others 1)",
            kind=numbers,
        ),
        Flag(
            "--flip",
            None,
            "mirror image beside each scale (default: horizontal for tg-clip, others none)",
            choices=("none", "horizontal", "vertical", "uncertain"),
        ),
        Flag(
            "--fusion", None, "how the two become one (default: mean)", choices=("mean", "entropy", "maximum")
        ),
        Flag(
            "--set",
            "KEY=VALUE",
            "any other setting of a method, without unit if none is said in docs/training-free.md: unit_features=false, "
            "after_upsampling=true, sam_refine=true, ... (default: as published); may be repeated; METHOD.KEY=VALUE is for "
            "one method alone",
            more={"action": "append", "dest": "settings"},
        ),
    ),
    "how training-free methods read",
)
"""Settings of methods, beside those that name models and masks."""


MODEL = (
    Flag("--checkpoint", "CKPT", "a trained model: a run's folder or best.ckpt, or an exported folder"),
    Flag("--trust", None, "open a program of `lexiseg export --to torch`", more={"dest": "trusted"}),
    Flag("--method", "NAME", "training-free method, such as maskclip or sc-clip; not with --checkpoint"),
)
"""What answers."""

READER = (*MODEL, ADAPTED, CLIP, *SECOND_MODELS, *SENTENCES)
"""What answers, and how it reads; ``cli/flags.py:read_pipeline`` makes it of these. METHOD stands behind all others."""

DEVICE = Flag("--device", "DEVICE", "auto, cpu, cuda, cuda:1, mps", default="auto")


def place(out: str) -> tuple[Flag, Flag]:
    """Where results go, and what computes them."""
    return (
        Flag("--out", "DIR", "result folder", default=Path(out), kind=Path),
        DEVICE,
    )
