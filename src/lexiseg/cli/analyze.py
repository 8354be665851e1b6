"""``lexiseg analyze``: look inside a tower, before and after training: CKA between blocks, similarity of patches."""

import argparse
from collections.abc import Callable, Mapping
from typing import get_args

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexiseg.analysis.layer_similarity import LayerSimilarity, LayerSimilarityResult
from lexiseg.analysis.patch_similarity import patch_at, patch_similarity
from lexiseg.cli.flags import add_photos, add_place
from lexiseg.cli.photographs import Photograph, Step, conclude, each_photograph, find_photos
from lexiseg.cli.towers import ALL, Towers, choose_blocks, load_towers
from lexiseg.drawing.heatmap import matrices, patch_maps
from lexiseg.errors import ConfigError
from lexiseg.ops.centered_kernel_alignment import Estimator
from lexiseg.storage import write_json, write_png

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


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``analyze`` and its two figures to the command line."""
    parser = subparsers.add_parser(
        "analyze",
        help="look inside a tower: CKA between blocks, similarity of patches",
        description="Figures of what the blocks of a tower hold, before and after training.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    figures = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True)
    cka = _add_figure(figures, "cka", _CKA, _CKA_EXAMPLES, run_cka)
    cka.add_argument(
        "--estimator", choices=get_args(Estimator), default="unbiased", help="of HSIC (default: unbiased)"
    )
    patches = _add_figure(figures, "patches", _PATCHES, _PATCHES_EXAMPLES, run_patches)
    patches.add_argument(
        "--at", required=True, metavar="X,Y", help="pixel of the photograph: x from its left, y from its top"
    )
    patches.add_argument(
        "--centred", action="store_true", help="take each photograph's mean token away before comparing"
    )


def run_cka(args: argparse.Namespace, console: Console | None = None) -> int:
    """CKA between the blocks of one tower, or of two side by side.

    Returns:
        Exit status: 0, or 1 if a photograph was skipped.

    Raises:
        LexisegError: No photograph or model, or blocks that the tower does not have.
    """
    console = console or Console()
    photos = find_photos(args.photos)
    towers = load_towers(args)
    blocks = choose_blocks(args.blocks, towers.depth, fewest=2)
    gathered = {title: LayerSimilarity(args.estimator) for title in towers.readings}
    used: list[str] = []

    def work(photograph: Photograph, step: Step) -> None:
        for title, tokens in towers.read(photograph.pixels).items():
            gathered[title].update([tokens.blocks[block - 1] for block in blocks])
        used.append(str(photograph.path))

    failures = each_photograph(photos, console, work, told="reading blocks")
    results = {title: similarity.compute() for title, similarity in gathered.items()}
    _write_cka(args, towers, blocks, results, used)
    console.print(_table(results))
    return conclude(console, photos, failures, done=f"counted; {args.out / 'cka.png'} and cka.json")


def run_patches(args: argparse.Namespace, console: Console | None = None) -> int:
    """Similarity maps of the patch at a point.

    Returns:
        Exit status: 0, or 1 if a photograph was skipped.

    Raises:
        LexisegError: No photograph or model, a point that is none, or blocks that the tower does not have.
    """
    console = console or Console()
    photos = find_photos(args.photos)
    point = read_point(args.at)
    towers = load_towers(args)
    blocks = choose_blocks(args.blocks, towers.depth)

    def work(photograph: Photograph, step: Step) -> None:
        read = towers.read(photograph.pixels)
        grid = next(iter(read.values())).grid
        height, width = photograph.pixels.shape[:2]
        patch = patch_at(point, (height, width), grid)
        maps = {
            title: {
                block: patch_similarity(tokens.blocks[block - 1], grid, patch, centred=args.centred).numpy()
                for block in blocks
            }
            for title, tokens in read.items()
        }
        write_png(patch_maps(photograph.pixels, maps, patch), args.out / f"{photograph.stem}_patches.png")
        where = {"photograph": str(photograph.path), "point": list(point), "patch": list(patch)}
        found = {
            title: {str(block): values.tolist() for block, values in of_tower.items()}
            for title, of_tower in maps.items()
        }
        about = {"figure": "patches", **towers.about, **where, "grid": list(grid), "centred": args.centred}
        write_json(about | {"cosines": found}, args.out / f"{photograph.stem}_patches.json")

    failures = each_photograph(photos, console, work, told="reading blocks")
    return conclude(console, photos, failures, done=f"drawn; pictures in {args.out}")


def read_point(text: str) -> tuple[int, int]:
    """The two numbers of a point.

    Raises:
        ConfigError: Not two whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--at {text}: expected two whole numbers, x and y in pixels, such as --at 320,200")
    return int(parts[0]), int(parts[1])


def _add_figure(
    figures: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    description: str,
    examples: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = figures.add_parser(
        name,
        help=description.partition("\n")[0],
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        default=ALL,
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
    parser.set_defaults(func=run)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _write_cka(
    args: argparse.Namespace,
    towers: Towers,
    blocks: tuple[int, ...],
    results: Mapping[str, LayerSimilarityResult],
    used: list[str],
) -> None:
    values = {title: result.matrix.numpy() for title, result in results.items()}
    lowest = min((float(np.nanmin(matrix)) for matrix in values.values()), default=0.0)
    captions = [
        f"block {blocks[-1]} and the others {result.last_to_others:.2f}, neighbours {result.neighbours:.2f}"
        for result in results.values()
    ]
    picture = matrices(
        values, [str(block) for block in blocks], captions=captions, low=min(np.floor(10 * lowest) / 10, 0.9)
    )
    write_png(picture, args.out / "cka.png")
    about = {"figure": "cka", **towers.about, "estimator": args.estimator, "blocks": list(blocks)}
    found = {title: result.to_dict() for title, result in results.items()}
    patches = next(iter(results.values())).patches
    write_json(about | {"photographs": used, "patches": patches, "cka": found}, args.out / "cka.json")


def _table(results: Mapping[str, LayerSimilarityResult]) -> Table:
    table = Table("mean CKA")
    for column in ("last block and the others", "neighbours", "patches"):
        table.add_column(column, justify="right")
    for title, result in results.items():
        table.add_row(
            escape(title), f"{result.last_to_others:.3f}", f"{result.neighbours:.3f}", str(result.patches)
        )
    return table
