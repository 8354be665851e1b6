"""``lexiseg demo``: on the toy world, what a frozen CLIP can do alone and what Cascade-CLIP makes of it."""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from lexiseg.cli.building import build_clip, build_split_and_data, embed_split, training_run
from lexiseg.cli.composing import compose_config, plain
from lexiseg.clip.loading import FrozenCLIP
from lexiseg.dense.registry import build_dense
from lexiseg.drawing.overlay import annotate, panels
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.inference.pipeline import load_trained
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.recipes.training import train
from lexiseg.training.checkpointing import LAST
from lexiseg.types import ClassSplit, SegmentationDataset

READINGS = {
    "clip": "vanilla",
    "maskclip": "value-only",
    "sclip": "q-q + k-k",
}
"""Training-free readings of the tower that the zero-shot row is the best of."""

_SCORES = ("seen", "unseen", "harmonic")
_PICTURES = 4

_EPILOG = """
Everything runs offline on the processor: scenes are rendered, the CLIP ships with the package. The toy world proves that
the machine works; it says nothing about photographs.

examples:
  lexiseg demo
  lexiseg demo --seeds 3 --out runs/demo3     the figures of the README
"""


@dataclass(frozen=True)
class Row:
    """One line of the demo's table: scores in fractions."""

    title: str
    seen: float
    unseen: float
    harmonic: float


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``demo`` to the command line."""
    parser = commands.add_parser(
        "demo",
        help="train on the toy world and find unseen classes, offline, in minutes",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="folder for runs, table and pictures"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings with different seeds; the table gives mean ± spread"
    )
    parser.add_argument("--steps", type=int, help="training steps (default: the toy experiment's)")
    parser.add_argument("--scenes", type=int, help="validation scenes (default: the toy experiment's)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Zero-shot readings, training, table, pictures."""
    console, started = Console(), time.monotonic()
    configs = [_config(args, seed) for seed in range(args.seeds)]
    split, data = build_split_and_data(configs[0])
    clip = build_clip(configs[0].clip)
    console.print(
        f"Toy world: {len(split.seen)} seen and {len(split.unseen)} unseen classes ({', '.join(split.unseen)}); "
        f"{len(data.val)} validation scenes.\n\nThe frozen CLIP alone, read densely in three ways:"
    )
    windows = InferenceProtocol.from_dict(plain(configs[0].protocol))
    readings = zero_shot_readings(clip, split, data.val, configs[0].templates, windows)
    console.print(_table([row for row, _ in readings]))
    best, best_segmenter = max(readings, key=lambda pair: pair[0].harmonic)
    trained, segmenter = [], best_segmenter
    for seed, config in enumerate(configs):
        console.print(f"\nTraining Cascade-CLIP, seed {seed} ({config.trainer.max_steps} steps) …")
        train(training_run(config))
        segmenter = _trained_segmenter(config, split)
        report = evaluate(segmenter, data.val, split)
        trained.append(_row(f"Cascade-CLIP, seed {seed}", report.scores))
    _draw(args.out, data.val, split, {"zero-shot CLIP": best_segmenter, "Cascade-CLIP": segmenter})
    rows = [replace(best, title=f"zero-shot CLIP ({best.title})"), *trained]
    if len(trained) > 1:
        rows.append(_mean("Cascade-CLIP, mean", trained))
    console.print()
    console.print(_table(rows))
    if len(trained) > 1:
        console.print("spread (standard deviation over seeds): " + _spread(trained))
    result = {"readings": [vars(row) for row, _ in readings], "rows": [vars(row) for row in rows]}
    (args.out / "demo.json").write_text(json.dumps(result, indent=2))
    console.print(f"\nPictures and table: {args.out}  ({(time.monotonic() - started) / 60:.1f} minutes)")
    return 0


def zero_shot_readings(
    clip: FrozenCLIP,
    split: ClassSplit,
    dataset: SegmentationDataset,
    templates: str,
    trained: InferenceProtocol,
) -> list[tuple[Row, Segmenter]]:
    """Score every reading of the frozen tower, on whole scenes and in the windows that the trained model gets.

    The labels are an argmax of cosines, which no logit scale can change; so every reading is at its best scale.
    """
    vocabulary, embeddings = embed_split(clip, split, templates)
    shared = replace(trained, activation="linear", seen_penalty=0.0)
    views = {
        "whole": replace(shared, name="whole", window=None, stride=None),
        "windows": replace(shared, name="windows"),
    }
    results = []
    for method, title in READINGS.items():
        encoder = build_dense(method, clip.vision)
        for view, protocol in views.items():
            segmenter = Segmenter(encoder, vocabulary, embeddings, protocol, seen_ids=split.seen_ids)
            report = evaluate(segmenter, dataset, split)
            results.append((_row(f"{title}, {view}", report.scores), segmenter))
    return results


def _config(args: argparse.Namespace, seed: int) -> DictConfig:
    overrides = [f"seed={seed}", f"name=seed{seed}", f"output_dir={args.out / f'seed{seed}'}", "trainer=cpu"]
    if args.steps:
        overrides.append(f"trainer.max_steps={args.steps}")
    if args.scenes:
        overrides.append(f"data.val.length={args.scenes}")
    return compose_config("train", [*overrides, "experiment=toy"])


def _trained_segmenter(config: DictConfig, split: ClassSplit) -> Segmenter:
    loaded = load_trained(Path(config.output_dir) / LAST, device="cpu")
    vocabulary, embeddings = embed_split(loaded.clip, split, loaded.templates)
    return Segmenter(loaded.model, vocabulary, embeddings, loaded.protocol, seen_ids=split.seen_ids)


def _draw(
    folder: Path, dataset: SegmentationDataset, split: ClassSplit, segmenters: dict[str, Segmenter]
) -> None:
    """Photograph, truth and every segmenter's answer, on the scenes that show the most of unseen classes."""
    folder.mkdir(parents=True, exist_ok=True)
    shares = [float(np.isin(dataset[i].label, split.unseen_ids).mean()) for i in range(min(len(dataset), 60))]
    for place, index in enumerate(np.argsort(shares)[::-1][:_PICTURES]):
        sample = dataset[int(index)]
        answers = [
            segmenter.segment(sample.image).labels.astype(np.uint8) for segmenter in segmenters.values()
        ]
        drawn = [
            annotate(sample.image, labels, split.classes, hatched=split.unseen)
            for labels in (sample.label, *answers)
        ]
        sheet = panels([sample.image, *drawn], titles=["scene", "truth", *segmenters], min_side=300)
        sheet.save(folder / f"unseen_{place}.png")


def _row(title: str, scores: dict[str, float]) -> Row:
    return Row(title, *(float(scores[name]) for name in _SCORES))


def _mean(title: str, rows: list[Row]) -> Row:
    return Row(title, *(float(np.mean([getattr(row, name) for row in rows])) for name in _SCORES))


def _spread(rows: list[Row]) -> str:
    return ", ".join(
        f"{name} {100 * np.std([getattr(r, name) for r in rows], ddof=1):.1f}" for name in _SCORES
    )


def _table(rows: list[Row]) -> Table:
    table = Table("mIoU in %", *_SCORES)
    for row in rows:
        table.add_row(row.title, *(f"{100 * getattr(row, name):.1f}" for name in _SCORES))
    return table
