"""Flags of ``lexiseg analyze``."""

import argparse

from lexiseg.cli.parsers.shared import Commands, add_command, add_photos, add_place

ESTIMATORS = ("unbiased", "plain")
"""Of :data:`lexiseg.ops.centered_kernel_alignment.Estimator`."""

_EXAMPLES = """examples (each figure has --help):
  lexiseg analyze cka photos/ --checkpoint runs/cascade_voc/best.ckpt
  lexiseg analyze patches photo.jpg --at 320,200 --checkpoint runs/cascade_voc/best.ckpt --blocks 6,9,12"""

_CKA = """Linear CKA between every two blocks of a tower, over the patch tokens of photographs (Cascade-CLIP, figure 4).

Writes cka.png and cka.json. With --checkpoint the frozen CLIP and the trained model's prompted tower stand side by
side. Every patch of every photograph is one example; the unbiased estimator is Song et al.'s, the plain one Kornblith
et al.'s, which is too large while patches are few beside channels. Use dozens of photographs."""

_CKA_EXAMPLES = """examples:
  lexiseg analyze cka photos/ --checkpoint runs/cascade_voc/best.ckpt
  lexiseg analyze cka photos/ --clip openai/clip-vit-large-patch14 --blocks 6,12,18,24
  lexiseg analyze cka scenes/*.png --clip toy --short-side 128"""

_PATCHES = """Which patches resemble the one at a point, block by block (Cascade-CLIP, figures 1 and 6).

Writes STEM_patches.png and STEM_patches.json per photograph: the cosine of the patch at the point with every patch,
as colour over the photograph, one map per block; with --checkpoint a second row for the trained model's tower."""

_PATCHES_EXAMPLES = """examples:
  lexiseg analyze patches photo.jpg --at 320,200
  lexiseg analyze patches photo.jpg --at 320,200 --checkpoint runs/cascade_voc/best.ckpt --blocks 6,9,12
  lexiseg analyze patches scene.png --at 40,60 --clip toy --short-side 128"""


def add_parser(commands: Commands) -> None:
    """Add ``analyze`` and its two figures to the command line."""
    parser = add_command(
        commands,
        "analyze",
        told="look inside a tower: CKA between blocks, similarity of patches",
        description="Figures of what the blocks of a tower hold, before and after training.",
        examples=_EXAMPLES,
    )
    figures = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True)
    cka = _add_figure(figures, "cka", _CKA, _CKA_EXAMPLES)
    cka.add_argument(
        "--estimator", choices=ESTIMATORS, default="unbiased", help="of HSIC (default: unbiased)"
    )
    patches = _add_figure(figures, "patches", _PATCHES, _PATCHES_EXAMPLES)
    patches.add_argument(
        "--at", required=True, metavar="X,Y", help="pixel of the photograph: x from its left, y from its top"
    )
    patches.add_argument(
        "--centred", action="store_true", help="take each photograph's mean token away before comparing"
    )


def _add_figure(figures: Commands, name: str, description: str, examples: str) -> argparse.ArgumentParser:
    parser = add_command(
        figures,
        name,
        f"lexiseg.cli.analyze:run_{name}",
        told=description.partition("\n")[0],
        description=description,
        examples=examples,
    )
    add_photos(parser)
    parser.add_argument(
        "--clip",
        metavar="NAME|PATH",
        help="hub name, folder or file of CLIP weights, or toy (default: hub ViT-B/16)",
    )
    parser.add_argument(
        "--checkpoint", metavar="CKPT", help="a trained model; its CLIP is the frozen one beside it"
    )
    parser.add_argument(
        "--blocks",
        default="all",
        metavar="NUMBERS",
        help="all, or numbers from 1 with commas between (default: all)",
    )
    parser.add_argument(
        "--short-side",
        type=_positive,
        metavar="PIXELS",
        help="size that photographs are brought to (default: the checkpoint's, or 3/2 of the CLIP's own)",
    )
    add_place(parser, out="analysis")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
