"""Judge the systems that a sweep trained on the toy world, beside what only masks or only names of each are worth.

    lexiseg sweep ablation=systems experiment=toy data.batch_size=8 validation.panels=0 'seeds=[0,1,2]' output=runs/systems
    python scripts/toy_systems.py runs/systems

Per system, over the seeds: seen, unseen and harmonic mIoU; the share of a window's classes whose mask some region covers with
an IoU of at least a half; and the accuracy of names, mean over classes, where the masks are the ground truth's: by the mean of
the maps under a mask, and by the classifier of regions itself, its ceiling, which then reads the whole scene. All read
windows of 48 pixels otherwise, as they were trained. ZegFormer's training never asks CLIP, so all its branches are read from
one checkpoint.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lexiseg.data.toy.world import TOY_CLASSES, ToyWorld
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.evaluation.naming import NAMING_PROTOCOL, GroundTruthMasks
from lexiseg.inference.pipeline import Pipeline
from lexiseg.progress import with_progress
from lexiseg.types import ClassSplit, SegmentationDataset

COVERED = 0.5
"""IoU from which a region stands for a class's mask."""

WINDOW = 48
"""Pixels: the crops of training, and the size that the toy CLIP knows."""

ZEGFORMER_BRANCHES = ("segment", "image", "fused")
PIXELS = ("seen", "unseen", "harmonic")
COLUMNS = (
    *PIXELS, "recall", "under masks, seen", "under masks, unseen", "of masks, seen", "of masks, unseen",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One seed of one system, in percent.

    Attributes:
        label: Its system and branch.
        scores: By column of the table; what a system does not have is left out.
    """

    label: str
    scores: Mapping[str, float]


def main() -> None:
    """Judge every checkpoint below a folder and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", help="outputs of sweeps: ROW/seedN/last.ckpt below each"
    )
    parser.add_argument("--scenes", type=int, default=60, help="of world seed 5, as experiment=toy validates")
    arguments = parser.parse_args()
    scenes = ToyWorld(partition="val", length=arguments.scenes, seed=5)
    found = sorted(path for folder in arguments.runs for path in folder.glob("*/seed*/last.ckpt"))
    if not found:
        parser.error(f"no ROW/seedN/last.ckpt below {', '.join(map(str, arguments.runs))}")
    rows: dict[str, list[Row]] = {}
    for path in with_progress(found, "judging", len(found)):
        for row in judge(path, scenes):
            rows.setdefault(row.label, []).append(row)
            told = ", ".join(f"{key} {value:.1f}" for key, value in row.scores.items())
            print(f"{path.parent.name} of {row.label}: {told}", file=sys.stderr, flush=True)
    print(table(rows))


def judge(checkpoint: Path, scenes: SegmentationDataset) -> list[Row]:
    """A row, or one for each branch of ZegFormer."""
    pipeline, name = Pipeline.load(checkpoint), checkpoint.parent.parent.name
    if not pipeline.model.names_regions:
        told = json.loads((checkpoint.parent / "result.json").read_text(encoding="utf-8"))["val"]
        pixels = {key: 100 * told[key] for key in PIXELS}
        return [Row(name, pixels | _named(pipeline, scenes, "under masks"))]
    windowed = _read_in(pipeline, window=WINDOW, stride=WINDOW // 2)
    whole = _read_in(pipeline, window=None, stride=None)
    if name != "zegformer":
        return [_row(name, windowed, whole, scenes)]
    rows = []
    for branch in ZEGFORMER_BRANCHES:
        model: Any = pipeline.model
        model.settings = replace(model.settings, branch=branch)
        rows.append(_row(f"{name}, {branch}", windowed, whole, scenes))
    return rows


def _read_in(pipeline: Pipeline, **changes: Any) -> Pipeline:
    return replace(pipeline, protocol=replace(pipeline.protocol, **changes))


def _row(label: str, windowed: Pipeline, whole: Pipeline, scenes: SegmentationDataset) -> Row:
    split = _split(windowed)
    scores = evaluate(windowed.segmenter(split), scenes, split).scores
    return Row(
        label,
        {key: 100 * scores[key] for key in PIXELS}
        | {"recall": _recall(windowed.model, scenes)}
        | _named(windowed, scenes, "under masks")
        | _named(whole, scenes, "of masks"),
    )


def _named(pipeline: Pipeline, scenes: SegmentationDataset, how: str) -> dict[str, float]:
    """Accuracy of the names of ground-truth masks, mean over seen and over unseen classes."""
    split = _split(pipeline)
    named = evaluate(
        _read_in(pipeline, **NAMING_PROTOCOL).segmenter(split), scenes, split, masks=GroundTruthMasks()
    )
    return {
        f"{how}, {part}": 100 * named.scores[f"mask_class_accuracy_{part}"] for part in ("seen", "unseen")
    }


def _split(pipeline: Pipeline) -> ClassSplit:
    if pipeline.split is None:
        raise SystemExit("a checkpoint names no split; train it by the command above")
    return pipeline.split


@torch.inference_mode()
def _recall(model: Any, scenes: SegmentationDataset) -> float:
    """Share of the classes in windows, in percent, that some region covers with an IoU of :data:`COVERED`."""
    covered, total = 0, 0
    for index in range(len(scenes)):
        sample = scenes[index]
        height, width = sample.label.shape
        corners = [
            (top, left)
            for top in range(0, height - WINDOW + 1, WINDOW // 2)
            for left in range(0, width - WINDOW + 1, WINDOW // 2)
        ]
        pixels = torch.from_numpy(sample.image.copy()).permute(2, 0, 1).float()
        windows = torch.stack([pixels[:, y : y + WINDOW, x : x + WINDOW] for y, x in corners])
        side = -(-WINDOW // model.patch_size) * model.patch_size
        inputs = F.pad(model.normalize(windows), (0, side - WINDOW, 0, side - WINDOW))
        logits = F.interpolate(_proposed(model, inputs), size=(side, side), mode="bilinear")
        found = logits[..., :WINDOW, :WINDOW] > 0
        for (y, x), masks in zip(corners, found, strict=True):
            label = sample.label[y : y + WINDOW, x : x + WINDOW]
            for class_id in np.unique(label[label < len(TOY_CLASSES)]):
                truth = torch.from_numpy(label == class_id)
                either = (masks | truth).flatten(1).sum(1)
                both = (masks & truth).flatten(1).sum(1)
                covered += bool((both / either.clamp(min=1)).max() >= COVERED)
                total += 1
    return 100 * covered / total


def _proposed(model: Any, inputs: torch.Tensor) -> torch.Tensor:
    """``(1, N, h, w)`` mask logits of the model's last layer."""
    state = model.encode(inputs)
    found = getattr(state, "proposals", state).masks
    if not isinstance(found, torch.Tensor):
        raise TypeError("expected mask logits")
    return found


def table(rows: dict[str, list[Row]]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    lines = [f"| | {' | '.join(COLUMNS)} | seeds |", f"| --- |{' ---: |' * (len(COLUMNS) + 1)}"]
    for label, seeds in rows.items():
        shown = [_spread([row.scores[key] for row in seeds if key in row.scores]) for key in COLUMNS]
        lines.append(f"| {label} | {' | '.join(shown)} | {len(seeds)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return "–"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {spread:.1f}"


if __name__ == "__main__":
    main()
