"""Flags of ``lexiseg masks``."""

from pathlib import Path

from lexiseg.cli.parsers.mask_providers import PROVIDER
from lexiseg.cli.parsers.shared import Command, Flag
from lexiseg.models.mask_providers import PROVIDERS

MASKS_SUFFIX = ".masks.json"
"""What the store of masks adds to a photograph's name."""

_TOLD = "\n".join(f"  {name:12} {entry.told}" for name, entry in PROVIDERS.items())

_BUILD = f"""Make masks of every photograph, once; training then reads them.

{_TOLD}

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

_IMAGES = Flag(
    "images", "IMAGES", "photographs, or folders with all their subfolders", kind=Path, more={"nargs": "+"}
)

_BUILT = (
    _IMAGES,
    Flag("--output", "FOLDER", "where masks go (default: beside each photograph)", kind=Path),
    Flag("--workers", "N", "processes (default: one per processor, at most 16)", kind=int),
    Flag(
        "--overwrite", None, "replace masks made with other settings, or of another version of the photograph"
    ),
    *PROVIDER,
)

_SHOWN = (
    _IMAGES,
    Flag("--output", "FOLDER", "where the pictures go", kind=Path, required=True),
    Flag("--masks", "FOLDER", "--output of the build (default: beside each photograph)", kind=Path),
)

COMMAND = Command(
    "masks",
    "make masks without names of a folder of photographs, or look at them",
    examples=_BUILD_EXAMPLES,
    commands=(
        Command(
            "build",
            "make and keep the masks of photographs",
            "lexiseg.cli.masks:run_build",
            _BUILD,
            _BUILD_EXAMPLES,
            _BUILT,
        ),
        Command(
            "show",
            "draw masks over their photographs",
            "lexiseg.cli.masks:run_show",
            _SHOW,
            _SHOW_EXAMPLES,
            _SHOWN,
        ),
    ),
)
