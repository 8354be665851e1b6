"""``lexiseg compare``: flags to a comparison, a table and a picture per photograph."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from lexiseg.cli.flags import read_settings, read_vocabulary, warn_unknown
from lexiseg.cli.photographs import conclude, each_photograph
from lexiseg.errors import LexisegError
from lexiseg.recipes.compare import Comparison, Reading, choose_methods, draw, gather, read_all, read_truth
from lexiseg.recipes.photographs import Photograph, Step, find_photos
from lexiseg.storage import require_folder, write_png

_SAME = (
    "background",
    "templates",
    "clip",
    "tokenizer",
    "proxy",
    "sam",
    "masks",
    "bank",
    "checkpoint",
    "stages",
    "device",
)


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """Compare on every photograph.

    Returns:
        Exit status: 0, or 1 if a photograph was skipped.

    Raises:
        LexisegError: Nothing could be done at all: no image, bad words, no such method, no model.
    """
    console = console or Console()
    photos = find_photos(args.photos)
    named = {name: getattr(args, name) for name in ("proxy", "masks", "sam", "bank")}
    methods = choose_methods(args.methods, console.print, **named)
    require_folder(args.out, "--out")
    same = {name: getattr(args, name) for name in _SAME}
    task = Comparison(read_vocabulary(args), methods, **same, settings=read_settings(args))

    def unknown(line: str) -> None:
        console.print(f"[yellow]{escape(line)}[/yellow]", soft_wrap=True)

    def left_out(title: str, error: LexisegError) -> None:
        console.print(f"[yellow]{escape(title)} is left out:[/yellow] {escape(str(error))}")

    clip, contestants = gather(task, left_out)
    warn_unknown(console, clip, args, task.words)

    def work(photograph: Photograph, step: Step) -> None:
        names = contestants[0].segmenter.vocabulary.names
        truth = read_truth(args.truth, photograph, len(names), unknown)
        readings = read_all(photograph, contestants, left_out, step)
        path = args.out / f"{photograph.stem}_compare.png"
        write_png(draw(photograph, [*truth, *readings], names), path)
        height, width = photograph.pixels.shape[:2]
        console.print(f"{escape(str(photograph.path))}: {height}x{width} pixels (height x width)")
        console.print(_table(readings))
        console.print(f"picture: {escape(str(path))}\n")

    failures = each_photograph(photos, console, work, told=contestants[0].title, steps=len(contestants))
    return conclude(console, photos, failures, done=f"compared; pictures in {args.out}")


def _table(readings: Sequence[Reading]) -> Table:
    caption = "seconds from pixels to labels; the first method's hold the start-up"
    seconds = Column("seconds", justify="right")
    table = Table("method", seconds, "largest classes", caption=caption, caption_justify="left")
    for reading in readings:
        table.add_row(escape(reading.title), f"{reading.seconds:.2f}", escape(reading.told))
    return table
