"""``lexiseg analyze``: look inside a tower: CKA between blocks, similarity of patches, attention of points."""

import argparse
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexiseg.analysis.layer_similarity import LayerSimilarityResult
from lexiseg.cli.photographs import conclude, each_photograph
from lexiseg.recipes.analyze import BlockAlignment, attention_figure, patch_figure, read_point
from lexiseg.recipes.photographs import Photograph, Step, find_photos
from lexiseg.recipes.towers import Towers, choose_blocks, load_towers


def run_cka(args: argparse.Namespace, console: Console | None = None) -> int:
    """CKA between the blocks of one tower, or of two side by side.

    Returns:
        Exit status: 0, or 1 if a photograph was skipped.

    Raises:
        LexisegError: No photograph or model, or blocks that the tower does not have.
    """
    console = console or Console()
    photos = find_photos(args.photos)
    towers = _load(args)
    alignment = BlockAlignment(towers, choose_blocks(args.blocks, towers.depth, fewest=2), args.estimator)

    def work(photograph: Photograph, _: Step) -> None:
        alignment.add(photograph.path, photograph.pixels)

    failures = each_photograph(photos, console, work, told="reading blocks")
    results = alignment.compute()
    alignment.figure(results).write(args.out, "cka")
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
    towers = _load(args)
    blocks = choose_blocks(args.blocks, towers.depth)

    def work(photograph: Photograph, _: Step) -> None:
        path, pixels = photograph.path, photograph.pixels
        figure = patch_figure(towers, path, pixels, point, blocks=blocks, centred=args.centred)
        figure.write(args.out, f"{photograph.stem}_patches")

    failures = each_photograph(photos, console, work, told="reading blocks")
    return conclude(console, photos, failures, done=f"drawn; pictures in {args.out}")


def run_attention(args: argparse.Namespace, console: Console | None = None) -> int:
    """Attention of points in the last block; returns and raises as :func:`run_patches`."""
    console = console or Console()
    photos, points = find_photos(args.photos), [read_point(text) for text in args.at]
    towers = load_towers(clip=args.clip, device=args.device, short_side=args.short_side)

    def work(photograph: Photograph, _: Step) -> None:
        figure = attention_figure(towers, photograph.path, photograph.pixels, points)
        figure.write(args.out, f"{photograph.stem}_attention")

    failures = each_photograph(photos, console, work, told="reading attention")
    return conclude(console, photos, failures, done=f"drawn; pictures in {args.out}")


def _load(args: argparse.Namespace) -> Towers:
    names = ("checkpoint", "clip", "device", "short_side")
    return load_towers(**{name: getattr(args, name) for name in names})


def _table(results: Mapping[str, LayerSimilarityResult]) -> Table:
    table = Table("mean CKA")
    for column in ("last block and the others", "neighbours", "patches"):
        table.add_column(column, justify="right")
    for title, result in results.items():
        table.add_row(
            escape(title), f"{result.last_to_others:.3f}", f"{result.neighbours:.3f}", str(result.patches)
        )
    return table
