"""``lexiseg data``: bring a data set into the expected layout, and look at it before training."""

import argparse
from collections.abc import Sequence
from dataclasses import fields

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexiseg.data.check import ClassRow, write_overlays
from lexiseg.recipes.data import DataPlace, check_data, prepare_data
from lexiseg.storage import require_folder


def run_prepare(args: argparse.Namespace) -> int:
    """Convert; 0 if every label map is there, 1 if some sources were corrupt."""
    console = Console(soft_wrap=True)
    report = prepare_data(args.name, args.root, args.source)
    for target, reason in report.failed:
        console.print(f"[red]skipped[/red] {escape(target.name)}: {escape(reason)}", soft_wrap=True)
    for note in report.notes:
        console.print(escape(note))
    for path in report.lists:
        console.print(f"wrote {escape(str(path))}")
    console.print(f"{report.made} made, {report.skipped} already there, {len(report.failed)} failed")
    return 1 if report.failed else 0


def run_check(args: argparse.Namespace) -> int:
    """Print what the data set contains and draw overlays; 0 unless an error is raised."""
    console = Console(soft_wrap=True)
    require_folder(args.out, "--out")
    place = DataPlace(**{item.name: getattr(args, item.name) for item in fields(DataPlace)})
    check = check_data(place, args.split)
    dataset, split = check.dataset, check.split
    console.print(f"[bold]{escape(args.name)}[/bold]: {len(dataset)} images, {len(dataset.classes)} classes")
    if split is not None:
        console.print(
            f"split {escape(split.name)}: {len(split.seen)} seen, {len(split.unseen)} unseen, "
            f"{split.setting}, unseen_pixels={split.unseen_pixels}"
        )
    console.print(_histogram(check.rows))
    if check.mapping is not None:
        console.print(_mapping(check.mapping))
    for note in check.notes:
        console.print(f"[yellow]note[/yellow] {escape(note)}")
    for path in write_overlays(dataset, args.out, args.overlays, split):
        console.print(f"wrote {escape(str(path))}")
    return 0


def _histogram(rows: Sequence[ClassRow]) -> Table:
    table = Table(title="labels")
    for column in ("id", "class", "", "pixels", "% of labelled", "images"):
        table.add_column(column, justify="left" if column in ("class", "") else "right")
    for row in rows:
        style = "magenta" if row.role == "unseen" else ("red" if row.pixels == 0 else "")
        counts = (f"{row.pixels:,}", f"{row.share:.2f}", f"{row.images:,}")
        table.add_row(str(row.index), escape(row.name), row.role, *counts, style=style)
    return table


def _mapping(meanings: Sequence[tuple[str, str]]) -> Table:
    table = Table(title="id mapping")
    table.add_column("raw ids in the label maps", justify="right")
    table.add_column("mean")
    for raw, meaning in meanings:
        table.add_row(raw, escape(meaning))
    return table
