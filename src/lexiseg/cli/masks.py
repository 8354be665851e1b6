"""``lexiseg masks``: make class-agnostic masks of a folder of photographs, and look at them."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape

from lexiseg.cli.mask_providers import add_provider_flags, count_workers, make_provider
from lexiseg.data.io import read_image
from lexiseg.data.unlabelled import find_images
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.build import MaskTask, Outcome, build_masks
from lexiseg.masks.store import SUFFIX, MaskStore
from lexiseg.progress import with_progress

_TOLD = 5

_BUILD = f"""Make masks of every photograph, once; training then reads them.

  superpixels  regions of like colour and texture at several granularities; needs no weights; the default
  dino         patch tokens of a DINO vision transformer, clustered photograph by photograph
  sam          everything that a SAM, SAM 2 or SAM-HQ finds from a grid of points

The masks of photo.jpg go to photo.jpg{SUFFIX} beside it, or under --output, which then mirrors the folder. The
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


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``masks`` with its commands ``build`` and ``show`` to the main parser."""
    masks = subparsers.add_parser(
        "masks",
        help="make masks without names of a folder of photographs, or look at them",
        epilog=_BUILD_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = masks.add_subparsers(dest="masks_command", required=True, metavar="COMMAND")
    _add_build(commands)
    _add_show(commands)


def _add_build(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "build",
        help="make and keep the masks of photographs",
        description=_BUILD,
        epilog=_BUILD_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    parser.set_defaults(func=run_build)


def _add_show(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "show",
        help="draw masks over their photographs",
        description=_SHOW,
        epilog=_SHOW_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_images(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", required=True, help="where the pictures go")
    parser.add_argument(
        "--masks", type=Path, metavar="FOLDER", help="--output of the build (default: beside each photograph)"
    )
    parser.set_defaults(func=run_show)


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGES",
        help="photographs, or folders with all their subfolders",
    )


def run_build(args: argparse.Namespace) -> int:
    """Make masks; 1 if there is not one photograph that has its masks now."""
    console = Console(stderr=True, soft_wrap=True)
    tasks = mask_tasks(args.images, args.output)
    workers = min(count_workers(args), len(tasks))
    outcomes = build_masks(tasks, make_provider(args), read_image, workers=workers, overwrite=args.overwrite)
    done = list(with_progress(_reported(outcomes, console), "making masks", len(tasks)))
    _summarize(done, console)
    return 0 if any(outcome.status in ("made", "kept") for outcome in done) else 1


def run_show(args: argparse.Namespace) -> int:
    """Draw masks; 1 if a photograph was skipped."""
    from lexiseg.cli.mask_drawing import draw_all  # loads more than a build needs

    return draw_all(mask_tasks(args.images, args.masks), args.output)


def mask_tasks(places: Sequence[Path], output: Path | None) -> list[MaskTask]:
    """Each image once, with the store of the folder that it was found through.

    Raises:
        ConfigError: The output is a file.
        DataError: A place that does not exist, or a folder without images.
    """
    if output is not None and output.exists() and not output.is_dir():
        raise ConfigError(f"--output: expected a folder, {output} is a file")
    found: dict[Path, MaskTask] = {}
    for place in places:
        if not place.exists():
            raise DataError(f"no file or folder at {place}; check the path")
        root = place if place.is_dir() else place.parent
        store = MaskStore(output, root)
        for image in find_images(place) if place.is_dir() else (place,):
            found.setdefault(image, MaskTask(image, store))
    return list(found.values())


def _reported(outcomes: Iterable[Outcome], console: Console) -> Iterable[Outcome]:
    """Pass outcomes on, saying at once which photograph failed and why."""
    for outcome in outcomes:
        if outcome.status == "failed":
            console.print(f"[red]skipped:[/red] {escape(outcome.reason)}")
        yield outcome


def _summarize(outcomes: Sequence[Outcome], console: Console) -> None:
    by_status = {
        status: [outcome for outcome in outcomes if outcome.status == status]
        for status in ("made", "kept", "differs", "failed")
    }
    console.print(
        f"{len(outcomes)} photographs: {len(by_status['made'])} made, {len(by_status['kept'])} already there, "
        f"{len(by_status['failed'])} skipped"
    )
    ready = by_status["made"] + by_status["kept"]
    counts = [outcome.masks for outcome in ready]
    if counts:
        console.print(f"masks each: mean {np.mean(counts):.1f}, least {min(counts)}, most {max(counts)}")
    bare = [str(outcome.image) for outcome in ready if not outcome.masks]
    if bare:
        console.print(f"[yellow]without any mask ({len(bare)}):[/yellow] {escape(_some(bare))}")
    dropped = sum(outcome.dropped for outcome in ready)
    if dropped:
        console.print(f"{dropped} empty masks left out")
    other = by_status["differs"]
    if other:
        console.print(
            f"[yellow]left as they are ({len(other)}):[/yellow] {escape(_some([str(item.image) for item in other]))}: "
            f"{escape(other[0].reason)}; --overwrite makes them anew"
        )


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + more
