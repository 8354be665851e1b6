"""Judge the systems that a sweep trained on the toy world, beside what only masks or only names of each are worth.

    lexiseg sweep ablation=systems experiment=toy data.batch_size=8 validation.panels=0 'seeds=[0,1,2]' output=runs/systems
    python scripts/toy_systems.py runs/systems

Per system, over the seeds: seen, unseen and harmonic mIoU; the share of a scene's classes whose mask some region covers with
an IoU of at least a half; and the accuracy of names, mean over classes, where the masks are the ground truth's: the ceiling of
what names a region. ZegFormer's training never asks CLIP, so all its branches are read from one checkpoint.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lexiseg.data.toy.world import TOY_CLASSES, ToyWorld
from lexiseg.evaluation.evaluate import EvaluationReport, evaluate
from lexiseg.evaluation.naming import NAMING_PROTOCOL, GroundTruthMasks
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.progress import with_progress
from lexiseg.types import SegmentationDataset

COVERED = 0.5
"""IoU from which a region stands for a class's mask."""

ZEGFORMER_BRANCHES = ("segment", "image", "fused")


@dataclass(frozen=True)
class Row:
    """One seed of one system, in percent.

    Attributes:
        label: Its system and branch.
        seen, unseen, harmonic: mIoU of pixels.
        recall: Classes of scenes that a region covers; None for a model of pixels.
        named_seen, named_unseen: Accuracy of names of ground-truth masks, mean over classes.
    """

    label: str
    seen: float
    unseen: float
    harmonic: float
    recall: float | None
    named_seen: float
    named_unseen: float


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
    print(table(rows))


def judge(checkpoint: Path, scenes: SegmentationDataset) -> list[Row]:
    """A row, or one for each branch of ZegFormer."""
    pipeline, name = Pipeline.load(checkpoint), checkpoint.parent.parent.name
    if name != "zegformer":
        told = json.loads((checkpoint.parent / "result.json").read_text(encoding="utf-8"))["val"]
        return [_judged(pipeline, name, scenes, told)]
    rows = []
    for branch in ZEGFORMER_BRANCHES:
        model: Any = pipeline.model
        model.settings = replace(model.settings, branch=branch)
        rows.append(_judged(pipeline, f"{name}, {branch}", scenes))
    return rows


def _judged(
    pipeline: Pipeline, label: str, scenes: SegmentationDataset, told: Mapping[str, float] | None = None
) -> Row:
    """A row; its pixels' scores are those that training told at its end, if it did."""
    split = pipeline.split
    if split is None:
        raise SystemExit(f"{label}: the checkpoint names no split")
    free = told or evaluate(pipeline.segmenter(split), scenes, split).scores
    protocol = InferenceProtocol.from_dict(pipeline.protocol.to_dict() | dict(NAMING_PROTOCOL))
    named = evaluate(
        replace(pipeline, protocol=protocol).segmenter(split), scenes, split, masks=GroundTruthMasks()
    )
    recall = _recall(pipeline.segmenter(split), scenes) if pipeline.model.names_regions else None
    return Row(
        label,
        *(100 * free[key] for key in ("seen", "unseen", "harmonic")),
        recall,
        *_named(named),
    )


def _named(report: EvaluationReport) -> tuple[float, float]:
    return (
        100 * report.scores["mask_class_accuracy_seen"],
        100 * report.scores["mask_class_accuracy_unseen"],
    )


def _recall(segmenter: Segmenter, scenes: SegmentationDataset) -> float:
    """Share of the classes in scenes, in percent, that some region covers with an IoU of :data:`COVERED`."""
    covered, total = 0, 0
    for index in range(len(scenes)):
        sample = scenes[index]
        masks = _regions(segmenter, sample.image)
        for class_id in np.unique(sample.label[sample.label < len(TOY_CLASSES)]):
            truth = torch.from_numpy(sample.label == class_id)
            either = (masks | truth).flatten(1).sum(1)
            both = (masks & truth).flatten(1).sum(1)
            covered += bool((both / either.clamp(min=1)).max() >= COVERED)
            total += 1
    return 100 * covered / total


@torch.inference_mode()
def _regions(segmenter: Segmenter, image: Any) -> torch.Tensor:
    """``(N, H, W)`` bool at the scene's own size; a toy scene is read whole."""
    model: Any = segmenter.model
    height, width = image.shape[:2]
    padded_height, padded_width = (
        -(-side // model.patch_size) * model.patch_size for side in (height, width)
    )
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    inputs = F.pad(model.normalize(pixels), (0, padded_width - width, 0, padded_height - height))
    logits = F.interpolate(_proposed(model, inputs), size=(padded_height, padded_width), mode="bilinear")[0]
    return logits[:, :height, :width] > 0


def _proposed(model: Any, inputs: torch.Tensor) -> torch.Tensor:
    """``(1, N, h, w)`` mask logits of the model's last layer."""
    state = model.encode(inputs)
    found = getattr(state, "proposals", state).masks
    if not isinstance(found, torch.Tensor):
        raise TypeError("expected mask logits")
    return found


def table(rows: dict[str, list[Row]]) -> str:
    """Mean and standard deviation over seeds, in percent."""
    lines = [
        "| | seen | unseen | harmonic | recall | names, seen | names, unseen | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, seeds in rows.items():
        shown = [
            _spread([getattr(row, key) for row in seeds])
            for key in ("seen", "unseen", "harmonic", "recall", "named_seen", "named_unseen")
        ]
        lines.append(f"| {label} | {' | '.join(shown)} | {len(seeds)} |")
    return "\n".join(lines)


def _spread(values: list[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "–"
    spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{statistics.mean(numbers):.1f} ± {spread:.1f}"


if __name__ == "__main__":
    main()
