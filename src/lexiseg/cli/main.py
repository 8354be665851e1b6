"""The ``lexiseg`` command."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from lexiseg import __version__

_EPILOG = """
a first look, offline, in a few minutes:
  lexiseg demo

your photographs and words:
  lexiseg predict photo.jpg --classes "dog, grass, sky"
  lexiseg compare photo.jpg --classes "dog, grass, sky"     every training-free method, side by side

train, then judge (Hydra overrides; each has --help):
  lexiseg train experiment=toy
  lexiseg train experiment=cascade_voc data.root=data/VOCdevkit/VOC2012
  lexiseg eval checkpoint=runs/cascade_voc/last.ckpt data=voc split=voc_15_5

learn where things are from photographs without labels:
  lexiseg masks build photos/
  lexiseg pixelclip mask_data.root=photos clip=vit_b16
"""

_HYDRA_COMMANDS = {
    "train": "train a model on the seen classes of a split",
    "eval": "judge a checkpoint on seen and unseen classes",
    "pixelclip": "tune a CLIP with masks without names, and write it as a CLIP like any other",
    "sweep": "train the rows of one of the paper's tables over several seeds",
    "benchmark": "put training-free methods side by side in one table",
}
"""Commands that take Hydra overrides, each in a module of its name."""

_FLAG_COMMANDS = {
    "predict": "predict",
    "compare": "compare",
    "analyze": "analyze",
    "data": "data",
    "masks": "masks",
    "demo": "demo",
    "import": "importing",
    "export": "exporting",
}
"""Commands with flags, and their modules."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands, or of one alone: a worker process of ``masks build`` need not import the others."""
    chosen = [command] if command in _FLAG_COMMANDS else list(_FLAG_COMMANDS)
    parser = argparse.ArgumentParser(
        prog="lexiseg",
        description="Zero-shot semantic segmentation: an image and words in, a labelled mask out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lexiseg {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, told in _HYDRA_COMMANDS.items():
        commands.add_parser(name, help=told, add_help=False)
    for name in chosen:
        import_module(f"lexiseg.cli.{_FLAG_COMMANDS[name]}").add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a user's mistake becomes one message and exit status 2, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    from lexiseg.errors import LexisegError

    try:
        return _dispatch(arguments)
    except LexisegError as error:
        if os.environ.get("LEXISEG_TRACEBACK"):
            raise
        print(f"lexiseg: {_message(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lexiseg: interrupted", file=sys.stderr)
        return 130


def _message(error: Exception) -> str:
    """The error's own sentence; one from a data loader's process comes wrapped in that process's traceback."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if "Original Traceback" in text else text


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in _HYDRA_COMMANDS:
        name = arguments[0]
        command = getattr(import_module(f"lexiseg.cli.{name}"), f"run_{name}")
        return int(command(arguments[1:]))
    args = build_parser(arguments[0] if arguments else None).parse_args(arguments)
    return int(args.func(args))


if __name__ == "__main__":
    sys.exit(main())
