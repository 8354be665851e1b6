"""Adapt a model to a few photographs with masks, and judge what came of it on others."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lexiseg.checkpoints.word_adaptation import WordAdaptation
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.io import read_image, read_label
from lexiseg.drawing.reliability import reliability_diagram
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.background import with_background
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.shots import Shot, require_shots
from lexiseg.label_codes import LabelMap, label_codes
from lexiseg.metrics.calibration import Reliability
from lexiseg.metrics.functional import class_iou, confusion_matrix
from lexiseg.progress import doing
from lexiseg.recipes.photographs import find_photos
from lexiseg.storage import write_json, write_png

ANYTHING_ELSE = "other"
"""What stands around an example, where nothing is said."""


@dataclass(frozen=True)
class Judged:
    """How a segmenter does on photographs with masks.

    Attributes:
        miou: Over the classes that occur in the masks, as a fraction.
        accuracy: Share of labelled pixels that are right.
        reliability: Of the labelled pixels.
    """

    miou: float
    accuracy: float
    reliability: Reliability

    def told(self) -> dict[str, float]:
        """Plain values."""
        return {
            "miou": self.miou,
            "pixel_accuracy": self.accuracy,
            "calibration_error": self.reliability.error,
        }


@dataclass(frozen=True)
class Adaptation:
    """What was learned, and how it does.

    Attributes:
        learned: The adaptation.
        judged: Before and after, on other photographs; empty where none were given.
    """

    learned: WordAdaptation
    judged: dict[str, Judged] = field(default_factory=dict)

    def write(self, path: Path) -> list[Path]:
        """Write the adaptation and, beside it, its account and the reliability diagram of other photographs.

        Raises:
            LexisegError: It cannot be written.
        """
        self.learned.write(path)
        report, diagram = path.with_suffix(".json"), path.with_name(f"{path.stem}_reliability.png")
        write_json(self.told(), report)
        if not self.judged:
            return [path, report]
        readings = {title: each.reliability.rows() for title, each in self.judged.items()}
        write_png(reliability_diagram(readings), diagram)
        return [path, report, diagram]

    def told(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "words": list(self.learned.words),
            "made_for": dict(self.learned.made_for),
            "temperature": self.learned.temperature,
            "threshold": self.learned.threshold,
            **self.learned.account,
            "judged": {title: each.told() for title, each in self.judged.items()},
        }

    def describe(self) -> list[str]:
        """What each part contributed, a line each."""
        account = self.learned.account
        lines = [f"mIoU in % on held-out pixels ({account['held_out']}):"]
        for step in account["steps"]:
            lines.append(f"  {step['part']}: {100 * step['miou']:.1f}{'' if step['kept'] else ' (left out)'}")
        if account["not_shown"]:
            lines.append(f"not shown, and their pixels left as they are: {', '.join(account['not_shown'])}")
        lines += [
            f"{title}, on other photographs: mIoU {100 * each.miou:.1f} %, calibration error {each.reliability.error:.3f}"
            for title, each in self.judged.items()
        ]
        return lines


def adapt(
    pipeline: Pipeline, words: Vocabulary, shots: Sequence[Shot], others: Sequence[Shot] = ()
) -> Adaptation:
    """Learn from some photographs, judge on others.

    Raises:
        LexisegError: As :meth:`~lexiseg.inference.pipeline.Pipeline.adapt`.
    """
    if others:
        require_shots(others, len(words))
    better = pipeline.adapt(shots, words)
    if better.adaptation is None:
        raise ValueError("expected an adaptation")
    judged = {}
    if others:
        judged = {
            title: judge(each.segmenter(words), others)
            for title, each in (("before", pipeline), ("after", better))
        }
    return Adaptation(better.adaptation, judged)


def judge(segmenter: Segmenter, shots: Sequence[Shot]) -> Judged:
    """Score labels and confidences on photographs with masks; "none of these" counts as no class."""
    count, codes = len(segmenter.vocabulary), label_codes(len(segmenter.vocabulary))
    counts = torch.zeros(count, count + 1, dtype=torch.long)
    total: Reliability | None = None
    with doing("judging", len(shots)) as work:
        for shot in shots:
            result = segmenter.segment(shot.image)
            label = torch.from_numpy(shot.label.astype(np.int64))
            label[label == codes.unlabelled] = codes.ignore
            predicted = torch.from_numpy(result.labels.astype(np.int64))
            counts += confusion_matrix(predicted, label, count, rejection=True)
            known = label != codes.ignore
            sure = torch.from_numpy(np.asarray(result.scores))[known]
            each = Reliability.of(sure, (predicted == label)[known])
            total = each if total is None else total + each
            work.advance()
    if total is None:
        raise ValueError("expected at least one photograph")
    right = float(counts.diagonal().sum()) / max(int(counts.sum()), 1)
    return Judged(float(class_iou(counts).nanmean()), right, total)


def read_shots(photos: str, masks: Path, count: int, ignored: Sequence[int] = ()) -> list[Shot]:
    """Photographs and the masks of the same names.

    Args:
        photos: A folder, a file, or a glob.
        masks: Folder of ``STEM.png``, class ids in the order of the words; or the one file of one photograph.
        count: How many words there are.
        ignored: Ids that say nothing.

    Raises:
        DataError: A photograph or a mask is missing or unreadable.
    """
    paths = find_photos([photos])
    shots = []
    for path in paths:
        file = masks if masks.is_file() and len(paths) == 1 else masks / f"{path.stem}.png"
        if not file.is_file():
            raise DataError(
                f"no mask at {file} for {path}; expected STEM.png with class ids for each photograph"
            )
        shots.append(Shot(read_image(path), _known(read_label(file), count, ignored), str(path)))
    return shots


def read_example(photo: Path, mask: Path) -> Shot:
    """One thing in one photograph: the mask is 0 where it is not, and 255 or any other number where it is.

    Raises:
        DataError: Unreadable, or a mask without a pixel.
    """
    raw = read_label(mask)
    if not raw.any() or raw.all():
        raise DataError(
            f"{mask} marks {'nothing' if not raw.any() else 'everything'}; mark the pixels of one thing"
        )
    return Shot(read_image(photo), (raw > 0).astype(np.uint8), str(photo))


def example_words(words: Vocabulary, background: str | None) -> Vocabulary:
    """The thing's words behind a background.

    Raises:
        ConfigError: More than one thing.
    """
    if len(words) != 1:
        raise ConfigError(
            f"--example shows one thing, but there are {len(words)} words; name one, synonyms behind ;"
        )
    return with_background(words, background or ANYTHING_ELSE)


def read_task(
    words: Vocabulary,
    *,
    photos: str | None,
    label_maps: Path | None,
    example: Sequence[Path] | None,
    background: str | None,
    judge: Sequence[str] | None,
    ignored: Sequence[int] = (),
) -> tuple[Vocabulary, list[Shot], list[Shot]]:
    """Words, photographs to learn from and photographs to judge on, as the flags name them.

    Raises:
        ConfigError: Photographs and an example, or neither; or a background without an example.
        DataError: As of :func:`read_shots` and :func:`read_example`.
    """
    if (photos is None) != (label_maps is None) or (photos is None) == (example is None):
        raise ConfigError("give PHOTOS and MASKS, or --example PHOTO MASK, and not both")
    if example is not None:
        words = example_words(words, background)
        shots = [read_example(*example)]
    elif background is not None or photos is None or label_maps is None:
        raise ConfigError(
            "--background stands around one thing; give it with --example, or make it the first of the words"
        )
    else:
        shots = read_shots(photos, label_maps, len(words), ignored)
    require_shots(shots, len(words))
    others = [] if judge is None else read_shots(judge[0], Path(judge[1]), len(words), ignored)
    return words, shots, others


def _known(raw: LabelMap, count: int, ignored: Sequence[int]) -> LabelMap:
    codes = label_codes(count)
    label: LabelMap = raw.astype(codes.dtype)
    label[np.isin(raw, list(ignored))] = codes.ignore
    return label
