"""A CLIP tuned with masks, then measured by PixelCLIP's own reading of it."""

from collections.abc import Callable, Sequence

from lexiseg.errors import LexisegError
from lexiseg.evaluation.benchmark import Row
from lexiseg.recipes.benchmark import BenchmarkRun, measure_all
from lexiseg.recipes.pixelclip import TuneRun, tune

SCORES_FOLDER = "scores"
"""In the folder of a tuning: what a benchmark measured of its CLIP."""


def tune_and_measure(run: TuneRun, open_benchmark: Callable[[Sequence[str]], BenchmarkRun]) -> None:
    """Tune as a run says, and measure what became of the CLIP; both go on wherever they were stopped.

    Args:
        run: The tuning; ``scores`` in its folder receives the measurements.
        open_benchmark: Opens benchmarks with these overrides, which name the method, the tuned CLIP and the output.

    Raises:
        LexisegError: Of either, each named.
    """
    measured = [
        "methods=[pixelclip]",
        f"clip='{tune(run).as_posix()}'",
        f"output='{(run.output_dir / SCORES_FOLDER).as_posix()}'",
    ]
    measure_all(open_benchmark(measured), _refused)


def _refused(row: Row, error: LexisegError) -> None:
    """The only row there is."""
    raise error
