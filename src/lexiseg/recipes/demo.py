"""The demonstration: what a frozen CLIP can do alone on a data set, and what training makes of it, in one table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lexiseg.clip.loading import FrozenCLIP
from lexiseg.dense.registry import build_dense
from lexiseg.drawing.overlay import annotate, panels
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.recipes.training import TrainRun, train
from lexiseg.storage import write_json, write_png
from lexiseg.training.checkpointing import LAST
from lexiseg.types import ClassSplit, SegmentationDataset

READINGS = {
    "clip": "vanilla",
    "maskclip": "value-only",
    "sclip": "q-q + k-k",
}
"""Training-free readings of the tower that the zero-shot row is the best of."""

SCORES = ("seen", "unseen", "harmonic")

_PICTURES = 4
_LOOKED_AT = 60
"""Scenes that pictures are chosen from."""


@dataclass(frozen=True)
class Row:
    """One line of the table: scores in fractions."""

    title: str
    seen: float
    unseen: float
    harmonic: float


@dataclass(frozen=True)
class Stage:
    """What every row is judged on.

    Attributes:
        dataset: Scenes and labels.
        split: Their classes, and which are seen.
        clip: The frozen CLIP.
        templates: Of the words; a set's name, or templates with ``{}`` in each.
        protocol: The trained model's.
    """

    dataset: SegmentationDataset
    split: ClassSplit
    clip: FrozenCLIP
    templates: str | tuple[str, ...]
    protocol: InferenceProtocol


@dataclass(frozen=True)
class Judged:
    """A row, and the segmenter that it is the score of."""

    row: Row
    segmenter: Segmenter


def judge_readings(stage: Stage) -> list[Judged]:
    """Score every reading of the frozen tower, on whole scenes and in the windows that the trained model gets.

    The labels are an argmax of cosines, which no logit scale can change; so every reading is at its best scale.
    """
    shared = replace(stage.protocol, activation="linear", seen_penalty=0.0)
    views = {
        "whole": replace(shared, name="whole", window=None, stride=None),
        "windows": replace(shared, name="windows"),
    }
    return [
        _judge(
            f"{title}, {view}",
            Pipeline(build_dense(method, stage.clip.tower), stage.clip, protocol, stage.templates),
            stage,
        )
        for method, title in READINGS.items()
        for view, protocol in views.items()
    ]


def train_all(
    stage: Stage, runs: Sequence[TrainRun], tell: Callable[[str], None] = lambda sentence: None
) -> list[Judged]:
    """Train every run, one seed each, and score it; ``tell`` hears of each before it starts.

    Raises:
        LexisegError: What training found wrong.
    """
    trained = []
    for run in runs:
        tell(f"Training Cascade-CLIP, seed {run.seed} ({run.trainer.max_steps} steps) …")
        train(run)
        trained.append(judge_trained(stage, run.output_dir / LAST, f"Cascade-CLIP, seed {run.seed}"))
    return trained


def keep(folder: Path, stage: Stage, readings: Sequence[Judged], trained: Sequence[Judged]) -> list[Row]:
    """Write pictures and ``demo.json``; the rows of the table: the best reading and every training.

    Args:
        folder: Made if it is not there.
        stage: What all were judged on.
        readings: One or more.
        trained: One or more; the last one is drawn.
    """
    best = best_reading(readings)
    draw_unseen(folder, stage, {"zero-shot CLIP": best, "Cascade-CLIP": trained[-1]})
    rows = all_rows(best, trained)
    write_results(folder, readings, rows)
    return rows


def judge_trained(stage: Stage, checkpoint: Path, title: str) -> Judged:
    """Score a model that has been trained on the stage's seen classes."""
    return _judge(title, Pipeline.load(checkpoint, device="cpu"), stage)


def best_reading(readings: Sequence[Judged]) -> Judged:
    """The one with the highest harmonic mean; NaN, where no scene shows an unseen class, is below every score."""
    return max(readings, key=lambda judged: -1.0 if math.isnan(judged.row.harmonic) else judged.row.harmonic)


def all_rows(best: Judged, trained: Sequence[Judged]) -> list[Row]:
    """The table: the best reading, every training, and their mean where there are several."""
    rows = [judged.row for judged in trained]
    mean = [_mean("Cascade-CLIP, mean", rows)] if len(rows) > 1 else []
    return [replace(best.row, title=f"zero-shot CLIP ({best.row.title})"), *rows, *mean]


def spread(trained: Sequence[Judged]) -> dict[str, float]:
    """Standard deviation of every score over two or more trainings, as fractions."""
    return {name: float(np.std([getattr(j.row, name) for j in trained], ddof=1)) for name in SCORES}


def write_results(folder: Path, readings: Sequence[Judged], rows: Sequence[Row]) -> None:
    """Write ``demo.json``: every reading, and the rows of the table."""
    result = {"readings": [vars(judged.row) for judged in readings], "rows": [vars(row) for row in rows]}
    write_json(result, folder / "demo.json")


def draw_unseen(folder: Path, stage: Stage, answers: Mapping[str, Judged]) -> None:
    """Scene, truth and every segmenter's answer, on the scenes that show the most of unseen classes."""
    dataset, split = stage.dataset, stage.split
    looked_at = range(min(len(dataset), _LOOKED_AT))
    shares = [float(np.isin(dataset[index].label, split.unseen_ids).mean()) for index in looked_at]
    for place, index in enumerate(np.argsort(shares)[::-1][:_PICTURES]):
        sample = dataset[int(index)]
        labels = [
            judged.segmenter.segment(sample.image).labels.astype(np.uint8) for judged in answers.values()
        ]
        drawn = [
            annotate(sample.image, each, split.classes, hatched=split.unseen)
            for each in (sample.label, *labels)
        ]
        sheet = panels([sample.image, *drawn], titles=["scene", "truth", *answers], min_side=300)
        write_png(sheet, folder / f"unseen_{place}.png")


def _judge(title: str, pipeline: Pipeline, stage: Stage) -> Judged:
    segmenter = pipeline.segmenter(stage.split)
    scores = evaluate(segmenter, stage.dataset, stage.split).scores
    return Judged(Row(title, *(float(scores[name]) for name in SCORES)), segmenter)


def _mean(title: str, rows: Sequence[Row]) -> Row:
    return Row(title, *(float(np.mean([getattr(row, name) for row in rows])) for name in SCORES))
