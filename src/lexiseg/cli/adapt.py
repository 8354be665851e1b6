"""``lexiseg adapt``: a few photographs with masks in, a small file that knows their words better out."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lexiseg.cli.flags import read_pipeline, read_vocabulary
from lexiseg.recipes.adapt import adapt, read_task
from lexiseg.storage import require_file_place


def run(args: argparse.Namespace, console: Console | None = None) -> int:
    """Adapt, judge and write; raises LexisegError for a user's mistake."""
    console = console or Console(soft_wrap=True)
    require_file_place(args.out, "--out")
    named = {name: getattr(args, name) for name in ("photos", "label_maps", "example", "background", "judge")}
    words, shots, others = read_task(read_vocabulary(args), ignored=args.ignore or (), **named)
    learned = adapt(read_pipeline(args), words, shots, others)
    written: list[Path] = learned.write(args.out)
    for line in (*learned.describe(), f"written: {', '.join(map(str, written))}"):
        console.print(escape(line))
    return 0
