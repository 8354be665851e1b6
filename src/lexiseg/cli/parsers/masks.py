"""Flags of ``lexiseg masks``."""

from pathlib import Path

from lexiseg.cli.parsers.mask_providers import PROVIDER
from lexiseg.cli.parsers.shared import CLIP, DEVICE, SENTENCES, Command, Flag
from lexiseg.recipes.mask_providers import PROVIDERS

MASKS_SUFFIX = ".masks.json"
"""What the store of masks adds to a photograph's name."""

_TOLD = "\n".join(f"  {name:14} {entry.told}" for name, entry in PROVIDERS.items())

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

_PAIRS = f"""Pair regions of photographs with words of their captions, as OVSeg does: each word takes the region that CLIP finds
nearest to it. `lexiseg maskadapt` learns from the pairs.

Masks have to be there already (`lexiseg masks build`, for OVSeg with --provider regions and a trained model). A pair is a
mask with a "word" in FOLDER/photo.jpg{MASKS_SUFFIX}. Stop it whenever you like: the same command goes on."""

_PAIRS_EXAMPLES = """examples:
  lexiseg masks pairs coco/train2017 --captions coco/annotations/captions_train2017.json --masks masks/ --output pairs/
  lexiseg masks pairs scenes/ --captions scenes/captions.json --words toy --clip toy --output pairs/"""

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

_PAIRED = (
    _IMAGES,
    Flag("--captions", "FILE", "JSON of COCO's layout", kind=Path, required=True),
    Flag("--output", "FOLDER", "where pairs go", kind=Path, required=True),
    Flag("--masks", "FOLDER", "--output of the build (default: beside each photograph)", kind=Path),
    Flag("--words", "LIST", "a class list's name or file, toy, or nouns (NLTK's)", default="nouns"),
    CLIP,
    *SENTENCES,
    Flag("--captions-each", "N", "captions of a photograph that count", default=1, kind=int),
    Flag(
        "--min-similarity",
        "COSINE",
        "least, of a region and its word (default: none)",
        default=-1.0,
        kind=float,
    ),
    DEVICE,
    Flag("--overwrite", None, "replace pairs made otherwise, or of another version of the photograph"),
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
            "pairs",
            "pair regions of photographs with words of their captions",
            "lexiseg.cli.masks:run_pairs",
            _PAIRS,
            _PAIRS_EXAMPLES,
            _PAIRED,
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
