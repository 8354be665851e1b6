"""``lexiseg demo``: on the toy world, what a frozen CLIP can do alone and what Cascade-CLIP makes of it."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from lexiseg.cli.composing import compose_config, plain
from lexiseg.errors import ConfigError
from lexiseg.recipes.demo import SCORES, Row, judge_readings, keep, spread, train_all
from lexiseg.recipes.records import demo_stage, training_run


def run(args: argparse.Namespace) -> int:
    """Zero-shot readings, training, table, pictures."""
    if args.seeds < 1:
        raise ConfigError(f"--seeds {args.seeds}: expected 1 training or more")
    console, started = Console(), time.monotonic()
    records = [_record(args, seed) for seed in range(args.seeds)]
    runs = [training_run(record, print) for record in records]  # a mistake shows before anything is judged
    stage = demo_stage(records[0])
    unseen = stage.split.unseen
    console.print(
        f"Toy world: {len(stage.split.seen)} seen and {len(unseen)} unseen classes ({', '.join(unseen)}); "
        f"{len(stage.dataset)} validation scenes.\n\nThe frozen CLIP alone, read densely in three ways:"
    )
    readings = judge_readings(stage)
    console.print(_table([judged.row for judged in readings]))
    trained = train_all(stage, runs, lambda sentence: console.print(f"\n{sentence}"))
    console.print()
    console.print(_table(keep(args.out, stage, readings, trained)))
    if len(trained) > 1:
        told = ", ".join(f"{name} {100 * value:.1f}" for name, value in spread(trained).items())
        console.print(f"spread (standard deviation over seeds): {told}")
    console.print(f"\nPictures and table: {args.out}  ({(time.monotonic() - started) / 60:.1f} minutes)")
    return 0


def _record(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    overrides = [f"seed={seed}", f"name=seed{seed}", f"output_dir={args.out / f'seed{seed}'}", "trainer=cpu"]
    if args.steps:
        overrides.append(f"trainer.max_steps={args.steps}")
    if args.scenes:
        overrides.append(f"data.val.length={args.scenes}")
    record: dict[str, Any] = plain(compose_config("train", [*overrides, "experiment=toy"]))
    return record


def _table(rows: Sequence[Row]) -> Table:
    table = Table("mIoU in %", *SCORES)
    for row in rows:
        table.add_row(row.title, *(f"{100 * getattr(row, name):.1f}" for name in SCORES))
    return table
