"""``lexiseg masks``: make class-agnostic masks of a folder of photographs, and look at them."""

import argparse
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

from lexiseg.cli.parsers.mask_providers import provider_settings
from lexiseg.masks.build import Outcome
from lexiseg.progress import with_progress
from lexiseg.recipes.masks import MaskBuild, MaskSummary, draw_masks, mask_tasks, start_masks
from lexiseg.storage import require_folder, write_png


def run_build(args: argparse.Namespace) -> int:
    """Make masks; 1 if a photograph was skipped, or none has its masks now."""
    build = MaskBuild(
        images=args.images,
        output=args.output,
        provider=args.provider,
        settings=provider_settings(args),
        model=args.model,
        device=args.device or "auto",
        workers=args.workers,
        overwrite=args.overwrite,
    )
    return _tell(*start_masks(build), "masks")


def run_pairs(args: argparse.Namespace) -> int:
    """Make pairs of a region and a word; 1 if a photograph was skipped, or none has its pairs now."""
    from lexiseg.clip.model import DEFAULT_CLIP
    from lexiseg.recipes.region_pairs import PairBuild, start_pairs
    from lexiseg.recipes.settings import ClipSource

    same = ("images", "captions", "output", "masks", "words", "captions_each", "device", "overwrite")
    build = PairBuild(
        **{name: getattr(args, name) for name in same},
        clip=ClipSource(args.clip or DEFAULT_CLIP, args.tokenizer),
        templates=args.templates or "single",
        least=args.min_similarity,
    )
    return _tell(*start_pairs(build), "pairs")


def _tell(count: int, outcomes: Iterator[Outcome], things: str) -> int:
    """Take the outcomes and tell them; the exit status."""
    console = Console(stderr=True, soft_wrap=True)
    made = list(with_progress(_reported(outcomes, console), f"making {things}", count))
    summary = MaskSummary(made, things)
    for sentence in summary.facts():
        console.print(sentence)
    for kind, which in summary.worries().items():
        console.print(f"[yellow]{kind}:[/yellow] {escape(which)}")
    return 1 if summary.of("failed") or not summary.ready else 0


def run_show(args: argparse.Namespace) -> int:
    """Draw masks; 1 if a photograph was skipped."""
    # More than a build needs.
    from lexiseg.cli.photographs import conclude, each_photograph
    from lexiseg.recipes.photographs import Photograph, Step

    console = Console(stderr=True, soft_wrap=True)
    require_folder(args.output, "--output")
    tasks = {task.image: task for task in mask_tasks(args.images, args.masks)}

    def draw(photograph: Photograph, _: Step) -> None:
        path = args.output / f"{photograph.stem}_masks.png"
        write_png(draw_masks(tasks[photograph.path], photograph.pixels), path)
        console.print(f"wrote {escape(str(path))}")

    photos = list(tasks)
    failures = each_photograph(photos, console, draw, told="drawing masks")
    return conclude(console, photos, failures, done="drawn")


def _reported(outcomes: Iterator[Outcome], console: Console) -> Iterator[Outcome]:
    """Pass outcomes on, saying at once which photograph failed and why."""
    for outcome in outcomes:
        if outcome.status == "failed":
            console.print(f"[red]skipped:[/red] {escape(outcome.reason)}", soft_wrap=True)
        yield outcome
