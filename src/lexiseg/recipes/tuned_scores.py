"""A CLIP tuned with masks, then measured by PixelCLIP's own reading of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from lexiseg.errors import LexisegError
from lexiseg.evaluation.benchmark import Row
from lexiseg.inference.devices import pick_device
from lexiseg.recipes.benchmark import BenchmarkRun, measure_all
from lexiseg.recipes.pixelclip import TuneRun, tune

SCORES_FOLDER = "scores"
"""In the folder of a tuning: what a benchmark measured of its CLIP."""

_METHOD = "methods=[pixelclip]"


def check_scores(open_benchmark: Callable[[Sequence[str]], BenchmarkRun], output: Path) -> tuple[str, ...]:
    """Open the benchmarks before hours of tuning, with the CLIP that is always there.

    Args:
        open_benchmark: As of :func:`tune_and_measure`, but it joins no other processes: those of a tuning do not yet know each
            other.
        output: A folder that can be written to; nothing is.

    Returns:
        Their names: what a CLIP has been measured on when all is done.

    Raises:
        LexisegError: A mistake in an override, or data that are not there.
    """
    opened = open_benchmark([_METHOD, "clip=toy", f"output='{output.as_posix()}'"])
    return tuple(benchmark.name for benchmark in opened.benchmarks)


def on_processor(device: str) -> torch.device:
    """The processor, once the device that was asked for is known to be here; ``auto`` takes no memory of a GPU.

    Raises:
        ConfigError: No such device, or none here.
    """
    pick_device(device)
    return torch.device("cpu")


def tune_and_measure(run: TuneRun, open_benchmark: Callable[[Sequence[str]], BenchmarkRun]) -> None:
    """Tune as a run says, and measure what became of the CLIP; both go on wherever they were stopped.

    Args:
        run: The tuning; ``scores`` in its folder receives the measurements.
        open_benchmark: Opens benchmarks with these overrides, which name the method, the tuned CLIP and the output.

    Raises:
        LexisegError: Of either, each named.
    """
    measured = [
        _METHOD,
        f"clip='{tune(run).as_posix()}'",
        f"output='{(run.output_dir / SCORES_FOLDER).as_posix()}'",
    ]
    measure_all(open_benchmark(measured), _refused)


def _refused(row: Row, error: LexisegError) -> None:
    """The only row there is."""
    raise error
