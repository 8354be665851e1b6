"""``lexiseg data``: bring a data set into the expected layout, and look at it before training."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lexiseg.cli.conf_files import choices, conf_dir
from lexiseg.data.check import class_rows, findings, write_overlays
from lexiseg.data.datasets.files import LabelledFiles
from lexiseg.data.scan import LabelScan, scan_labels
from lexiseg.errors import ConfigError
from lexiseg.recipes.data import DataPlace, open_place, prepare_data, read_split
from lexiseg.types import ClassSplit, SegmentationDataset


def run_prepare(args: argparse.Namespace) -> int:
    """Convert; 0 if every label map is there, 1 if some sources were corrupt."""
    console = Console(soft_wrap=True)
    report = prepare_data(args.name, args.root, args.source)
    for target, reason in report.failed:
        console.print(f"[red]skipped[/red] {escape(target.name)}: {escape(reason)}")
    for note in report.notes:
        console.print(escape(note))
    for path in report.lists:
        console.print(f"wrote {escape(str(path))}")
    console.print(f"{report.made} made, {report.skipped} already there, {len(report.failed)} failed")
    return 1 if report.failed else 0


def run_check(args: argparse.Namespace) -> int:
    """Print what the data set contains and draw overlays; 0 unless an error is raised."""
    console = Console(soft_wrap=True)
    dataset = open_place(_place(args))
    split = read_split(_split_file(args.split), dataset.classes) if args.split else None
    scan = scan_labels(dataset)
    console.print(f"[bold]{escape(args.data)}[/bold]: {len(dataset)} images, {len(dataset.classes)} classes")
    if split is not None:
        console.print(
            f"split {escape(split.name)}: {len(split.seen)} seen, {len(split.unseen)} unseen, "
            f"{split.setting}, unseen_pixels={split.unseen_pixels}"
        )
    console.print(_histogram(dataset, scan, split))
    if isinstance(dataset, LabelledFiles):
        console.print(_mapping(dataset))
    for note in findings(dataset.classes, scan, split):
        console.print(f"[yellow]note[/yellow] {escape(note)}")
    for path in write_overlays(dataset, args.out, args.overlays, split):
        console.print(f"wrote {escape(str(path))}")
    return 0


def _place(args: argparse.Namespace) -> DataPlace:
    return DataPlace(
        name=args.data,
        root=args.root,
        partition=args.partition,
        images=args.images,
        masks=args.masks,
        classes=args.classes,
        mask_suffix=args.mask_suffix,
    )


def _split_file(name: str) -> Path:
    """A split of ``conf/split`` by its name, or the YAML file given.

    Raises:
        ConfigError: There is none.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = conf_dir() / "split" / f"{name}.yaml"
    if not path.exists():
        raise ConfigError(f"no split '{name}'; there are {', '.join(choices('split'))}, or give a YAML file")
    return path


def _histogram(dataset: SegmentationDataset, scan: LabelScan, split: ClassSplit | None) -> Table:
    table = Table(title="labels")
    for column in ("id", "class", "", "pixels", "% of labelled", "images"):
        table.add_column(column, justify="left" if column in ("class", "") else "right")
    for row in class_rows(dataset.classes, scan, split):
        style = "magenta" if row.role == "unseen" else ("red" if row.pixels == 0 else "")
        cells = (
            str(row.index),
            escape(row.name),
            row.role,
            f"{row.pixels:,}",
            f"{row.share:.2f}",
            f"{row.images:,}",
        )
        table.add_row(*cells, style=style)
    return table


def _mapping(dataset: LabelledFiles) -> Table:
    table = Table(title="id mapping")
    table.add_column("raw ids in the label maps", justify="right")
    table.add_column("mean")
    for raw, meaning in dataset.schema.describe(dataset.classes):
        table.add_row(raw, escape(meaning))
    return table
