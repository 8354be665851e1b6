"""Photographs in segments, kept in COCO's form: panoptic maps, or things one by one."""

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from lexiseg.inference.given_masks import GivenMasks
from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.inference.segment_finding import SegmentKind, Stuff, stuff_names
from lexiseg.inference.segmenter import Segmenter
from lexiseg.progress import doing
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.predict import Prediction, keeping_results
from lexiseg.recipes.result_formats import Output, ResultFiles, ResultFormats
from lexiseg.storage import write_png

_log = logging.getLogger(__name__)


def predictor(
    segmenter: Segmenter,
    masks: GivenMasks | None = None,
    *,
    out: Path,
    output: Output = "semantic",
    stuff: Stuff | None = None,
    overlay: bool = True,
    scores: bool = False,
    formats: ResultFormats | None = None,
) -> "Prediction | SegmentPrediction":
    """What photographs become: labels of pixels, which ``masks`` and ``scores`` are for, or segments."""
    formats = formats or ResultFormats.read(None, output=output)
    if output == "semantic":
        whole = stuff_names(stuff or (), segmenter.vocabulary)
        return Prediction(segmenter, out, masks, overlay, scores, formats, whole)
    segmenter, changed = segmenter.for_segments()
    if changed:
        _log.warning(
            "segments need the photograph whole and no rule of pixels: %s of the model's protocol left out",
            ", ".join(changed),
        )
    return SegmentPrediction(segmenter, out, output, stuff or (), overlay, formats)


@dataclass
class SegmentPrediction:
    """How the segments of photographs are found, and what is kept of them.

    Attributes:
        segmenter: Made for the words, of a model of regions.
        out: Folder of the results.
        kind: What is looked for.
        stuff: Classes that are not counted.
        overlay: Write the photograph coloured by segment.
        formats: In which files; None: in COCO's own.
        written: The photographs whose results are there.

    Raises:
        ConfigError: The model has no segments, or stuff that is no class.
    """

    segmenter: Segmenter
    out: Path
    kind: SegmentKind
    stuff: Stuff = ()
    overlay: bool = True
    formats: ResultFormats | None = None
    written: list[Path] = field(default_factory=list)
    files: ResultFiles = field(init=False)

    def __post_init__(self) -> None:
        """Refuse before the first photograph what would be refused of each."""
        self.segmenter.require_segments(self.stuff)
        formats = self.formats or ResultFormats.read(None, output=self.kind)
        self.files = ResultFiles(self.out, formats, self.kind)

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
            self.files.add(photograph, found)
        self.written.append(photograph.path)
        return found

    def keeping(self, total: int) -> AbstractContextManager[None]:
        """What is kept of so many photographs if the work is stopped in here."""
        return keeping_results(self.files, self.written, total, self.out)
