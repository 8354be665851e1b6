"""Flags of ``lexiseg bank``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import CLIP, DEVICE, Command, Flag

_BUILD = """Read the regions of photographs without labels once, and keep what each is like and what CLIP says of it.
`--method corrclip --bank FOLDER` then asks for every region of a photograph what regions like it say.

Stop it whenever you like, in whatever way: the same command goes on where it stopped, and ends with the same bank. A
photograph that cannot be read, or has no masks, is reported and left out."""

_EXAMPLES = """examples:
  lexiseg bank build photos/ --masks masks/ --out bank                      masks/ as `lexiseg masks build` wrote it
  lexiseg bank build photos/ --masks panoptic --clip openai/clip-vit-base-patch16 --out bank --device cuda
  lexiseg predict photo.jpg --classes "dog, grass" --method corrclip --masks panoptic --bank bank"""

_MASKS = "whose regions: a folder of masks or a provider's name, as of predict; the same kind as later"
_PROXY = "vision model that says which regions are alike (default: hub DINO ViT-B/8)"

COMMAND = Command(
    "bank",
    "keep what the regions of unlabelled photographs are like, for CorrCLIP",
    examples=_EXAMPLES,
    commands=(
        Command(
            "build",
            "build a bank, or go on with one",
            "lexiseg.cli.bank:run_build",
            _BUILD,
            _EXAMPLES,
            (
                Flag(
                    "photos",
                    "PHOTOS",
                    "photographs, or folders with all their subfolders",
                    kind=Path,
                    more={"nargs": "+"},
                ),
                Flag("--masks", "DIR|PROVIDER", _MASKS, required=True),
                Flag("--out", "FOLDER", "the bank", kind=Path, required=True),
                CLIP,
                Flag("--proxy", "NAME|FOLDER", _PROXY),
                DEVICE,
                Flag("--overwrite", None, "replace a bank that is finished or was built otherwise"),
            ),
        ),
    ),
)
