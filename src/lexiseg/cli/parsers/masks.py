"""Flags of ``lexiseg masks``."""

import argparse
from pathlib import Path

from lexiseg.cli.parsers.mask_providers import add_provider_flags
from lexiseg.cli.parsers.shared import Commands, add_command

MASKS_SUFFIX = ".masks.json"
"""What the store of masks adds to a photograph's name."""

_BUILD = f"""Make masks of every photograph, once; training then reads them.

  superpixels  regions of like colour and texture at several granularities; needs no weights; the default
  dino         patch tokens of a DINO vision transformer, clustered photograph by photograph
  sam          everything that a SAM, SAM 2 or SAM-HQ finds from a grid of points

The masks of photo.jpg go to photo.jpg{MASKS_SUFFIX} beside it, or under --output, which then mirrors the folder. The
layout is SA-1B's, and a folder of SA-1B itself needs no build: its photo.json is read as it is.

Stop it whenever you like, in whatever way: the same command goes on where it stopped, and no file is ever half
written. A photograph that cannot be read is reported and left out. Run one build at a time over a folder."""

_BUILD_EXAMPLES = """examples:
  lexiseg masks build photos/
  lexiseg masks build photos/ --regions 8,32 --overwrite                replace masks made with other settings
  lexiseg masks build photos/ --output masks/ --workers 8
  lexiseg masks build photos/ --provider dino --device cuda
  lexiseg masks build photos/ --provider sam --model facebook/sam2.1-hiera-large --min-quality 0.8"""

_SHOW = """Draw the masks of photographs over them, STEM_masks.png each: the photograph, then its masks in layers of
masks that do not overlap, the coarse ones first. Grey is under no mask of the layer."""

_SHOW_EXAMPLES = """examples:
  lexiseg masks show photos/dog.jpg --output looked_at
  lexiseg masks show photos/ --masks masks/ --output looked_at"""


def add_parser(commands: Commands) -> None:
    """Add ``masks`` with its commands ``build`` and ``show`` to the command line."""
    masks = add_command(
        commands,
        "masks",
        told="make masks without names of a folder of photographs, or look at them",
        examples=_BUILD_EXAMPLES,
    )
    own = masks.add_subparsers(dest="masks_command", required=True, metavar="COMMAND")
    _add_build(own)
    _add_show(own)


def _add_build(commands: Commands) -> None:
    parser = add_command(
        commands,
        "build",
        "lexiseg.cli.masks:run_build",
        told="make and keep the masks of photographs",
        description=_BUILD,
        examples=_BUILD_EXAMPLES,
    )
    _add_images(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where masks go (default: beside each photograph)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per processor, at most 16)"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace masks made with other settings, or of another version of the photograph",
    )
    add_provider_flags(parser)


def _add_show(commands: Commands) -> None:
    parser = add_command(
        commands,
        "show",
        "lexiseg.cli.masks:run_show",
        told="draw masks over their photographs",
        description=_SHOW,
        examples=_SHOW_EXAMPLES,
    )
    _add_images(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", required=True, help="where the pictures go")
    parser.add_argument(
        "--masks", type=Path, metavar="FOLDER", help="--output of the build (default: beside each photograph)"
    )


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGES",
        help="photographs, or folders with all their subfolders",
    )
