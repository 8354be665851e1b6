"""Photographs in segments, kept in COCO's form: panoptic maps, or things one by one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.inference.segment_finding import SegmentKind, Stuff
from lexiseg.inference.segmenter import Segmenter
from lexiseg.interruption import Kept, keeping
from lexiseg.progress import doing
from lexiseg.recipes.coco_folder import CocoFolder
from lexiseg.recipes.given_masks import GivenMasks
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.predict import Prediction
from lexiseg.storage import write_png

_log = logging.getLogger(__name__)


def predictor(
    segmenter: Segmenter,
    masks: GivenMasks | None = None,
    *,
    out: Path,
    output: SegmentKind | Literal["semantic"] = "semantic",
    stuff: Stuff | None = None,
    overlay: bool = True,
    scores: bool = False,
) -> "Prediction | SegmentPrediction":
    """What photographs become: labels of pixels, which ``masks`` and ``scores`` are for, or segments."""
    if output == "semantic":
        return Prediction(segmenter, out, masks, overlay, scores)
    segmenter, changed = segmenter.for_segments()
    if changed:
        _log.warning(
            "segments need the photograph whole and no rule of pixels: %s of the model's protocol left out",
            ", ".join(changed),
        )
    return SegmentPrediction(segmenter, out, output, stuff or (), overlay)


@dataclass
class SegmentPrediction:
    """How the segments of photographs are found, and what is kept of them.

    Attributes:
        segmenter: Made for the words, of a model of regions.
        out: Folder of the results.
        kind: What is looked for.
        stuff: Classes that are not counted.
        overlay: Write the photograph coloured by segment.

    Raises:
        ConfigError: The model has no segments, or stuff that is no class.
    """

    segmenter: Segmenter
    out: Path
    kind: SegmentKind
    stuff: Stuff = ()
    overlay: bool = True
    coco: CocoFolder = field(init=False)

    def __post_init__(self) -> None:
        """Refuse before the first photograph what would be refused of each."""
        self.segmenter.require_segments(self.stuff)
        self.coco = CocoFolder(self.out, self.kind)

    def keep(self, photograph: Photograph) -> PanopticSegmentation | InstanceSegmentation:
        """Find the segments of one photograph and write them.

        Raises:
            DataError: It is too large.
            LexisegError: The results cannot be written.
        """
        find = self.segmenter.panoptic if self.kind == "panoptic" else self.segmenter.instances
        found = find(photograph.pixels, stuff=self.stuff)
        with doing("writing results"):
            if self.overlay:
                picture = found.overlay(photograph.pixels)
                write_png(picture, self.out / f"{photograph.stem}_{self.kind}_overlay.png")
            self.coco.add(photograph, found)
        return found

    @contextmanager
    def keeping(self, total: int) -> Iterator[None]:
        """What is kept of so many photographs if the work is stopped in here."""

        def tell() -> Kept:
            done = len(self.coco.images)
            return Kept(
                f"{done} of {total} photographs are segmented, results in {self.out}, listed in {self.coco.path}",
                goes_on=False,
            )

        with keeping(tell), self.coco.open():
            yield
