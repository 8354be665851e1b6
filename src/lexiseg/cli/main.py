"""The ``lexiseg`` command."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial

from lexiseg import __version__
from lexiseg.command_parser import CommandParser
from lexiseg.errors import LexisegError, own_sentence
from lexiseg.interruption import interrupted, run_command
from lexiseg.lazy import locate
from lexiseg.progress import shown

_EPILOG = """
a first look, offline, in a few minutes:
  lexiseg demo

your photographs and words:
  lexiseg predict photo.jpg --classes "dog, grass, sky"
  lexiseg compare photo.jpg --classes "dog, grass, sky"     every training-free method, side by side
  lexiseg app                                               the same on a page in the browser

train, then judge (Hydra overrides; each has --help):
  lexiseg train experiment=toy
  lexiseg train experiment=cascade_voc data.root=data/VOCdevkit/VOC2012 trainer=ddp trainer.devices=4
  lexiseg eval runs/cascade_voc/last.ckpt data=voc split=voc_15_5

learn where things are from photographs without labels:
  lexiseg masks build photos/
  lexiseg pixelclip images=photos masks=superpixels clip=vit_b16
"""

HYDRA_COMMANDS = {
    "train": "train a model on the seen classes of a split",
    "eval": "judge a checkpoint on seen and unseen classes",
    "pixelclip": "tune a CLIP with masks without names, and write it as a CLIP like any other",
    "maskadapt": "adapt a CLIP to regions cut out of photographs, on pairs of a region and a word (OVSeg)",
    "sweep": "train the rows of one of the paper's tables over several seeds",
    "benchmark": "put methods and trained models side by side in one table",
}
"""Commands that take Hydra overrides, each ``run_NAME`` in a module of its name."""

FLAG_COMMANDS = {
    "predict": "predict",
    "compare": "compare",
    "analyze": "analyze",
    "data": "data",
    "masks": "masks",
    "bank": "bank",
    "adapt": "adapt",
    "demo": "demo",
    "app": "app",
    "serve": "serve",
    "import": "importing",
    "export": "exporting",
}
"""Commands with flags, and the modules of ``parsers`` that know these."""

_NEED_OVERRIDES = ("eval", "sweep", "maskadapt")
"""They cannot guess what to work on, so the bare command shows its help."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands, or with the flags of one alone."""
    parser = CommandParser(
        prog="lexiseg",
        description="Zero-shot semantic segmentation: an image and words in, a labelled mask out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lexiseg {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, told in HYDRA_COMMANDS.items():
        commands.add_parser(name, help=told, add_help=False)
    for name in [command] if command in FLAG_COMMANDS else FLAG_COMMANDS:
        locate(f"lexiseg.cli.parsers.{FLAG_COMMANDS[name]}:COMMAND").add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake, Ctrl-C and SIGTERM end in one message and a status, never in a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(partial(_answer, given), ["lexiseg", *given], program=arguments is None)


def _answer(arguments: list[str]) -> int:
    try:
        with shown():
            return _dispatch(arguments)
    except LexisegError as error:
        if os.environ.get("LEXISEG_TRACEBACK") or interrupted():
            raise
        print(f"lexiseg: {own_sentence(error)}", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str]) -> int:
    command = arguments[0] if arguments else None
    if command in HYDRA_COMMANDS:
        return _run_hydra(command, arguments[1:])
    if command in FLAG_COMMANDS:
        locate("lexiseg.recipes.wrong_door:require_flags")(command, arguments[1:])
    args = build_parser(command).parse_args(arguments)
    return int(args.func(args))


def _run_hydra(command: str, overrides: list[str]) -> int:
    """Help comes from text alone; only a command that runs imports what it works with."""
    if {"-h", "--help"} & set(overrides) or (command in _NEED_OVERRIDES and not overrides):
        print(locate("lexiseg.recipes.usage:usage")(command))
        return 0
    locate("lexiseg.recipes.wrong_door:require_overrides")(command, overrides)
    return int(locate(f"lexiseg.cli.{command}:run_{command}")(overrides))


if __name__ == "__main__":
    sys.exit(main())
