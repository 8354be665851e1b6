"""One photograph segmented and kept: labels, overlay, scores and every setting, under the photograph's name."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.dense.wants import wants_masks
from lexiseg.errors import ConfigError
from lexiseg.inference.given_masks import GivenMasks
from lexiseg.inference.probabilities import Probabilities
from lexiseg.inference.regions import masks_missing
from lexiseg.inference.result import Segmentation
from lexiseg.inference.segmenter import Segmenter
from lexiseg.interruption import Kept, keeping
from lexiseg.progress import doing
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.result_formats import ResultFiles, ResultFormats


def check_flags(
    *,
    threshold: float | None,
    refine: int | None,
    output: str,
    masks: bool,
    scores: bool,
    method: str | None = None,
) -> None:
    """Refuse what no photograph can be segmented with, before a model is loaded.

    Raises:
        ConfigError: Out of range, a flag that says nothing of the chosen output, or a method whose masks are not named.
    """
    if threshold is not None and not 0 <= threshold < 1:
        raise ConfigError(f"--threshold is {threshold}; expected a number from 0 to below 1")
    if refine is not None and refine < 0:
        raise ConfigError(f"--refine is {refine}; expected a number of steps, 0 (off) or more")
    if method is not None and wants_masks(method) and not masks:
        raise masks_missing(method)
    if output == "semantic":
        return
    of_pixels = {"--refine": refine, "--masks": masks, "--scores": scores}
    given = [flag for flag, value in of_pixels.items() if value]
    if given:
        raise ConfigError(f"{given[0]} is for labels of pixels; leave it out with --output {output}")


@dataclass(frozen=True)
class Prediction:
    """How photographs are segmented, and what is kept of it.

    Attributes:
        segmenter: Made for the words.
        out: Folder of the results.
        masks: One class per mask of these; None: every pixel for itself.
        overlay: Write the photograph coloured by class.
        score_png: Write the score of each pixel.
        formats: In which files labels are kept.
        stuff: Names of the classes that are not counted where labels are cut into objects.
        written: The photographs whose results are there.
    """

    segmenter: Segmenter
    out: Path
    masks: GivenMasks | None = None
    overlay: bool = True
    score_png: bool = False
    formats: ResultFormats = field(default_factory=ResultFormats)
    stuff: frozenset[str] = frozenset()
    written: list[Path] = field(default_factory=list)
    files: ResultFiles = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the folders."""
        object.__setattr__(self, "files", ResultFiles(self.out, self.formats, stuff=self.stuff))

    def keep(self, photograph: Photograph) -> Segmentation:
        """Segment one photograph and write its results; the protocol says which masks voted.

        Raises:
            DataError: Its masks are missing or do not fit, or it is too large.
            LexisegError: The results cannot be written.
        """
        arrays, source = (None, None) if self.masks is None else self.masks.read(photograph)
        result, probabilities = self._segment(photograph, arrays)
        if source is not None:
            result = replace(result, protocol={**result.protocol, "masks": source})
        with doing("writing results"):
            result.save(
                self.out,
                photograph.stem,
                image=photograph.pixels,
                label_png="png" in self.formats.names,
                overlay=self.overlay,
                json="png" in self.formats.names,
                score_png=self.score_png,
            )
            self.files.add(photograph, result)
            if probabilities is not None:
                probabilities.save(self.out / f"{photograph.stem}_probabilities.npz")
        self.written.append(photograph.path)
        return result

    def _segment(
        self, photograph: Photograph, masks: npt.NDArray[np.bool_] | None
    ) -> tuple[Segmentation, Probabilities | None]:
        if "probabilities" not in self.formats.names:
            return self.segmenter.segment(photograph.pixels, masks=masks), None
        inside, vote = (masks, None) if self.segmenter.model.needs.masks else (None, masks)
        encoded = self.segmenter.encode(photograph.pixels, masks=inside)
        result = self.segmenter.segment_encoded(encoded, masks=vote)
        return result, self.segmenter.probabilities(encoded)

    def keeping(self, total: int) -> AbstractContextManager[None]:
        """What is kept of so many photographs if the work is stopped in here."""
        return keeping_results(self.files, self.written, total, self.out)


@contextmanager
def keeping_results(files: ResultFiles, written: Sequence[Path], total: int, out: Path) -> Iterator[None]:
    """Take photographs in here, and say what is kept of them if the work is stopped.

    Args:
        files: What is written.
        written: Grows by each photograph whose results are there.
        total: Photographs in all.
        out: Folder of the results.
    """
    lists = "".join(f", listed in {path}" for path in files.lists)

    def tell() -> Kept:
        return Kept(
            f"{len(written)} of {total} photographs are segmented, results in {out}{lists}", goes_on=False
        )

    with keeping(tell), files.open():
        yield
