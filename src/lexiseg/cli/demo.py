"""``lexiseg demo``: on the toy world, what a frozen CLIP can do alone and what Cascade-CLIP makes of it."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from lexiseg.cli.composing import compose_config, plain
from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.recipes.demo import (
    SCORES,
    Judged,
    Row,
    Stage,
    all_rows,
    best_reading,
    draw_unseen,
    judge_readings,
    judge_trained,
    spread,
    write_results,
)
from lexiseg.recipes.records import open_split_and_data, training_run
from lexiseg.recipes.settings import ClipSource
from lexiseg.recipes.training import train
from lexiseg.training.checkpointing import LAST


def run(args: argparse.Namespace) -> int:
    """Zero-shot readings, training, table, pictures."""
    if args.seeds < 1:
        raise ConfigError(f"--seeds {args.seeds}: expected 1 training or more")
    console, started = Console(), time.monotonic()
    configs = [_config(args, seed) for seed in range(args.seeds)]
    stage = _stage(configs[0])
    unseen = stage.split.unseen
    console.print(
        f"Toy world: {len(stage.split.seen)} seen and {len(unseen)} unseen classes ({', '.join(unseen)}); "
        f"{len(stage.dataset)} validation scenes.\n\nThe frozen CLIP alone, read densely in three ways:"
    )
    readings = judge_readings(stage)
    console.print(_table([judged.row for judged in readings]))
    trained = [_train(config, stage, console) for config in configs]
    best = best_reading(readings)
    draw_unseen(args.out, stage, {"zero-shot CLIP": best, "Cascade-CLIP": trained[-1]})
    rows = all_rows(best, trained)
    console.print()
    console.print(_table(rows))
    if len(trained) > 1:
        told = ", ".join(f"{name} {100 * value:.1f}" for name, value in spread(trained).items())
        console.print(f"spread (standard deviation over seeds): {told}")
    write_results(args.out, readings, rows)
    console.print(f"\nPictures and table: {args.out}  ({(time.monotonic() - started) / 60:.1f} minutes)")
    return 0


def _train(config: DictConfig, stage: Stage, console: Console) -> Judged:
    console.print(f"\nTraining Cascade-CLIP, seed {config.seed} ({config.trainer.max_steps} steps) …")
    train(training_run(plain(config), print))
    return judge_trained(stage, Path(config.output_dir) / LAST, f"Cascade-CLIP, seed {config.seed}")


def _stage(config: DictConfig) -> Stage:
    record = plain(config)
    split, data = open_split_and_data(record)
    clip, protocol = ClipSource(**record["clip"]).load(), InferenceProtocol.from_dict(record["protocol"])
    return Stage(data.val, split, clip, record["templates"], protocol)


def _config(args: argparse.Namespace, seed: int) -> DictConfig:
    overrides = [f"seed={seed}", f"name=seed{seed}", f"output_dir={args.out / f'seed{seed}'}", "trainer=cpu"]
    if args.steps:
        overrides.append(f"trainer.max_steps={args.steps}")
    if args.scenes:
        overrides.append(f"data.val.length={args.scenes}")
    return compose_config("train", [*overrides, "experiment=toy"])


def _table(rows: Sequence[Row]) -> Table:
    table = Table("mIoU in %", *SCORES)
    for row in rows:
        table.add_row(row.title, *(f"{100 * getattr(row, name):.1f}" for name in SCORES))
    return table
