"""``lexiseg benchmark``: training-free methods and trained models side by side, each under its own settings, in one table."""

from collections.abc import Callable, Sequence

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markdown import Markdown

from lexiseg.cli.composing import compose_config, plain
from lexiseg.evaluation.benchmark import Benchmark, Row
from lexiseg.recipes.ablations import take_ablation
from lexiseg.recipes.benchmark import (
    RESULTS_FILE,
    TABLE_FILE,
    BenchmarkRun,
    is_first_process,
    join_processes,
    measure_all,
)
from lexiseg.recipes.conf_files import benchmark_names, require_benchmarks
from lexiseg.recipes.records import benchmark, benchmark_run, require_benchmark


def run_benchmark(overrides: Sequence[str]) -> int:
    """The command: overrides in, exit status out."""
    console = Console()
    run = read_run(overrides)

    def left_out(choice: Row, error: Exception) -> None:
        console.print(f"[red]{choice.label} left out:[/red] {error}", highlight=False)

    table = measure_all(run, left_out)
    if is_first_process():
        console.print(Markdown(table))
        print(f"written to {run.output}: {TABLE_FILE}, {RESULTS_FILE}")
    return 0


def read_run(overrides: Sequence[str], place: Callable[[str], torch.device] = join_processes) -> BenchmarkRun:
    """What the overrides ask for, data sets opened and the CLIP loaded.

    Args:
        overrides: Of the benchmark.
        place: From the device as asked for to where the CLIP goes.

    Raises:
        LexisegError: An unknown method, benchmark or key, data that is not there, or a CLIP that cannot be loaded.
    """
    table, rest = take_ablation(overrides)
    own, of_benchmarks = _sort_overrides(rest)
    config = compose_config("benchmark", own)
    config.ablation = table
    record = plain(config)
    require_benchmark(record)  # a mistake shows before any data are opened
    names = require_benchmarks(record["benchmarks"])
    benchmarks = [load_benchmark(name, config, of_benchmarks.get(name, ())) for name in names]
    return benchmark_run(record, benchmarks, place(config.device))


def load_benchmark(name: str, config: DictConfig, overrides: Sequence[str] = ()) -> Benchmark:
    """One file of ``conf/benchmark`` with its data set opened.

    Raises:
        LexisegError: No such benchmark, a key that does not exist, or data that is not there.
    """
    given = [f"+data_root={config.data_root}", *(f"benchmark.{override}" for override in overrides)]
    return benchmark(plain(compose_config(f"benchmark/{name}", given).benchmark))


def _sort_overrides(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Overrides of the run, and those of single benchmarks (``toy.data.length=40``) without their name."""
    own: list[str] = []
    of_benchmarks: dict[str, list[str]] = {}
    available = benchmark_names()
    for override in overrides:
        name, dot, rest = override.partition(".")
        if dot and name in available:
            of_benchmarks.setdefault(name, []).append(rest)
        else:
            # Changes to a protocol are keys that the composed file cannot know.
            own.append(f"+{override}" if override.startswith("protocol.") else override)
    return own, of_benchmarks
