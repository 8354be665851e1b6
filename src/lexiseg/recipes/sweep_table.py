"""Runs of one table's rows over several seeds: read back from their folders, shown as mean ± spread."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lexiseg.errors import CheckpointError
from lexiseg.evaluation.benchmark_table import read_cells
from lexiseg.interruption import Kept, keeping, without_interrupts
from lexiseg.recipes.ablations import AblationRow
from lexiseg.recipes.benchmark import RESULTS_FILE
from lexiseg.recipes.run_folder import RESULT_FILE
from lexiseg.recipes.tuned_scores import SCORES_FOLDER
from lexiseg.storage import write_json, write_text

_SCORES = ("seen", "unseen", "harmonic")


@dataclass(frozen=True)
class RunResult:
    """One finished run.

    Attributes:
        seed: Its seed.
        scores: Seen, unseen and harmonic mIoU as fractions, those that the split has; of a tuned CLIP mIoU by benchmark.
        seconds: Training with validation, of the process that finished it.
        parameters: That are trained; None: not told.
    """

    seed: int
    scores: Mapping[str, float]
    seconds: float
    parameters: int | None = None


def run_folder(output: Path, row: str, seed: int) -> Path:
    """Where the run of one row and seed lies."""
    return output / row / f"seed{seed}"


def read_results(
    output: Path, rows: Sequence[AblationRow], seeds: Sequence[int], judges: Sequence[str]
) -> dict[str, tuple[RunResult, ...]]:
    """The finished runs of every row, in the order of the seeds.

    Args:
        output: The sweep's folder.
        rows: The table's.
        seeds: Of every row.
        judges: Benchmarks of tuned CLIPs; one that has not been measured on all of them has not finished.

    Raises:
        CheckpointError: A result file that cannot be read.
    """
    found: dict[str, tuple[RunResult, ...]] = {}
    for row in rows:
        paths = {seed: run_folder(output, row.name, seed) / RESULT_FILE for seed in seeds}
        runs = (_read(path, seed, judges) for seed, path in paths.items() if path.is_file())
        found[row.name] = tuple(run for run in runs if run is not None)
    return found


@contextmanager
def keeping_runs(
    output: Path,
    rows: Sequence[AblationRow],
    seeds: Sequence[int],
    judges: Sequence[str],
    *,
    processes: int = 1,
) -> Iterator[None]:
    """What is kept if the sweep is stopped in here: its complete runs. Of several processes, this one alone hears Ctrl-C."""

    def tell() -> Kept:
        complete = sum(map(len, read_results(output, rows, seeds, judges).values()))
        return Kept(f"{complete} of {len(rows) * len(seeds)} runs in {output} are complete")

    with keeping(tell), without_interrupts(heard=True) if processes != 1 else nullcontext():
        yield


def write_report(
    output: Path,
    rows: Sequence[AblationRow],
    seeds: Sequence[int],
    judges: Sequence[str],
    overrides: Sequence[str],
    source: str | None = None,
) -> str | None:
    """Write table.md and results.json of what has been run so far.

    Args:
        output: The sweep's folder.
        rows: The table's.
        seeds: Of every row.
        judges: As of :func:`read_results`.
        overrides: What every run was given besides, for the record.
        source: Where the published numbers are printed.

    Returns:
        The table; None where nothing has been run yet, and nothing is written.
    """
    results = read_results(output, rows, seeds, judges)
    if not any(results.values()):
        return None
    table = to_markdown(rows, results, source)
    write_text(table, output / "table.md")
    stored = [
        {
            "published": {},
            **row.told(),
            "runs": [vars(run) for run in results[row.name]],
            "overrides": list(overrides),
        }
        for row in rows
    ]
    write_json(stored, output / "results.json")
    return table


def _read(path: Path, seed: int, judges: Sequence[str]) -> RunResult | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        seconds, parameters = float(stored.get("seconds") or math.nan), stored.get("parameters")
        if "val" not in stored:
            cells = read_cells(path.parent / SCORES_FOLDER / RESULTS_FILE).values()
            measured = {cell.benchmark: cell.miou for cell in cells}
            if not all(name in measured for name in judges):
                return None
            return RunResult(seed, {name: measured[name] for name in judges}, seconds, parameters)
        # A score that no validation image could give is null, and takes no part in a mean over seeds.
        given = {name: stored["val"].get(name) for name in _SCORES}
        scores = {name: float(score) for name, score in given.items() if score is not None}
        return RunResult(seed, scores, seconds, parameters)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is no result of a training run ({error}); delete that run's folder and start the sweep again"
        ) from error


def to_markdown(
    rows: Sequence[AblationRow], results: Mapping[str, Sequence[RunResult]], source: str | None = None
) -> str:
    """The table: mean ± standard deviation over seeds in percent, trained parameters, seconds a run, published figures.

    Args:
        rows: The table's.
        results: By row.
        source: Where the published figures are printed; told below the table.
    """
    benchmarks = sorted({name for row in rows for name in row.published})
    measured = dict.fromkeys(name for runs in results.values() for run in runs for name in run.scores)
    scores = _SCORES if set(measured) <= set(_SCORES) else tuple(measured)
    head = [
        "",
        *scores,
        "seeds",
        "M trained",
        "s/run",
        *(_published_title(rows, name) for name in benchmarks),
    ]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for row in sorted(rows, key=lambda row: row.number):
        runs = results.get(row.name, ())
        seconds = [run.seconds for run in runs if not math.isnan(run.seconds)]
        cells = [
            row.label,
            *(mean_and_spread([run.scores[name] for run in runs if name in run.scores]) for name in scores),
            str(len(runs)),
            next((f"{run.parameters / 1e6:.2f}" for run in runs if run.parameters is not None), "–"),
            f"{np.mean(seconds):.0f}" if seconds else "–",
            *(" / ".join(f"{v:.1f}" for v in row.published.get(name, ())) or "–" for name in benchmarks),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if source is not None and benchmarks:
        lines += ["", f"Published: {source}."]
    return "\n".join([*lines, ""])


def _published_title(rows: Sequence[AblationRow], benchmark: str) -> str:
    """Which numbers a cell of the column holds, where they are several."""
    count = max(len(row.published.get(benchmark, ())) for row in rows)
    return f"published, {benchmark}" + (f" ({' / '.join(_SCORES[:count])})" if count > 1 else "")


def mean_and_spread(values: Sequence[float]) -> str:
    """Fractions as ``mean ± sample standard deviation`` in percent; one value alone, or nothing, as such."""
    if not values:
        return "–"
    mean = f"{100 * np.mean(values):.1f}"
    return f"{mean} ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else mean
