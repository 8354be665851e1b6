"""Results of methods on benchmarks: kept in one file, shown as one table."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np

from lexiseg.errors import ConfigError
from lexiseg.evaluation.efficiency import Efficiency, tg_clip_score
from lexiseg.evaluation.published import Published
from lexiseg.storage import is_there, write_json

_COSTS = ("M parameters", "GFLOP/image", "s/image", "FPS", "score")

_SCORE = "score: mIoU in percent + ln(1 + FPS + 1 / GFLOP), as in TG-CLIP's table 4; over several benchmarks, of the means."

_OF_MASKS = {"mask_accuracy": "masks", "mask_class_accuracy": "masks by class"}
"""Scores of the names of given masks, and what their columns are called."""


@dataclass(frozen=True)
class Cell:
    """One method on one benchmark.

    Attributes:
        method: Label of the row.
        benchmark: Name of the column.
        key: Changes with every setting, so that old results are not taken for new ones.
        miou: Mean IoU as a fraction.
        efficiency: What it cost.
        report: Everything that was measured and under which settings, as plain values.
    """

    method: str
    benchmark: str
    key: str
    miou: float
    efficiency: Efficiency
    report: Mapping[str, Any]


def read_cells(path: Path) -> dict[tuple[str, str], Cell]:
    """What an earlier run measured, by row and column; empty where nothing is.

    Raises:
        ConfigError: The file is no such result.
    """
    if not is_there(path):
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        cells = [
            Cell(**{**item, "efficiency": Efficiency(**_numbers(item["efficiency"]))}) for item in stored
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} is no result of a benchmark ({error}); move it away or choose another output"
        ) from error
    return {(cell.method, cell.benchmark): cell for cell in cells}


def write_cells(cells: Iterable[Cell], path: Path) -> None:
    """Write all results as JSON, whole or not at all."""
    write_json([{**vars(cell), "efficiency": vars(cell.efficiency)} for cell in cells], path)


def to_markdown(
    cells: Mapping[tuple[str, str], Cell],
    rows: Sequence[str],
    columns: Sequence[str],
    published: Mapping[tuple[str, str], Published] | None = None,
) -> str:
    """MIoU of every row on every benchmark in percent, then what a row costs, averaged over the benchmarks.

    Args:
        cells: By row and column.
        rows: Labels, in this order.
        columns: Names of benchmarks, in this order.
        published: Numbers of papers, by row and column; a column that has any gets one of them beside it, with a letter for
            the source, which is told below the table.
    """
    printed = published or {}
    letters = {source: ascii_lowercase[i] for i, source in enumerate(_sources(printed, rows, columns))}
    parts = [part for column in columns for part in _parts(column, rows, cells, printed)]
    average = ["mean"] if len(columns) > 1 else []
    head = ["method", *(title for title, _ in parts), *average, *_COSTS]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for row in rows:
        own = [cells[row, column] for column in columns if (row, column) in cells]
        shown = [_shown(value(row), letters) for _, value in parts]
        mean = float(np.mean([cell.miou for cell in own])) if own else math.nan
        means = [_percent(mean) if len(own) == len(columns) else "–"] * len(average)
        lines.append(f"| {' | '.join([row, *shown, *means, *_costs(own, mean)])} |")
    lines += ["", _SCORE]
    if letters:
        told = "; ".join(f"{letter} {source}" for source, letter in letters.items())
        lines += ["", f"Published, on OpenAI's ViT-B/16 unless it is said: {told}."]
    return "\n".join([*lines, ""])


def _parts(
    column: str,
    rows: Sequence[str],
    cells: Mapping[tuple[str, str], Cell],
    printed: Mapping[tuple[str, str], Published],
) -> list[tuple[str, Callable[[str], float | Published | None]]]:
    """What a benchmark has a column for each, and how a row's value is found."""

    def of(row: str, key: str) -> float | None:
        cell = cells.get((row, column))
        value = None if cell is None else cell.report.get("scores", {}).get(key)
        return math.nan if value is None and cell is not None else value

    def miou(row: str) -> float | None:
        return cells[row, column].miou if (row, column) in cells else None

    parts: list[tuple[str, Callable[[str], float | Published | None]]] = [(column, miou)]
    for key, title in _OF_MASKS.items():
        if any(of(row, key) is not None and not math.isnan(of(row, key) or 0.0) for row in rows):
            parts.append((f"{column} {title}", partial(of, key=key)))
    if any((row, column) in printed for row in rows):
        parts.append((f"{column} published", lambda row: printed.get((row, column))))
    return parts


def _sources(
    printed: Mapping[tuple[str, str], Published], rows: Sequence[str], columns: Sequence[str]
) -> list[str]:
    """Each once, in the order in which a reader meets them."""
    met = (printed[row, column].source for row in rows for column in columns if (row, column) in printed)
    return list(dict.fromkeys(met))


def _shown(value: float | Published | None, letters: Mapping[str, str]) -> str:
    if isinstance(value, Published):
        return f"{_percent(value.miou)} {letters[value.source]}"
    return "–" if value is None else _percent(value)


def _costs(cells: Sequence[Cell], miou: float) -> list[str]:
    if not cells:
        return ["–"] * len(_COSTS)
    seconds = float(np.mean([cell.efficiency.seconds for cell in cells]))
    operations = float(np.mean([cell.efficiency.operations for cell in cells]))
    timed, counted = not math.isnan(seconds), operations > 0  # an exported program's operations are not seen
    return [
        f"{cells[0].efficiency.parameters / 1e6:.1f}",
        f"{operations / 1e9:.1f}" if counted else "–",
        f"{seconds:.3f}" if timed else "–",
        f"{1 / seconds:.1f}" if timed else "–",
        f"{tg_clip_score(miou, seconds, operations):.1f}" if timed and counted else "–",
    ]


def _numbers(stored: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {key: math.nan if value is None else value for key, value in stored.items()}


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
