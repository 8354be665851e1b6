"""Results of methods on benchmarks: kept in one file, shown as one table."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.errors import ConfigError
from lexiseg.evaluation.efficiency import Efficiency, tg_clip_score
from lexiseg.storage import is_there, write_json


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


def to_markdown(cells: Mapping[tuple[str, str], Cell], rows: Sequence[str], columns: Sequence[str]) -> str:
    """MIoU of every row on every benchmark in percent, then what a row costs, averaged over the benchmarks."""
    average = ["mean"] if len(columns) > 1 else []
    head = ["method", *columns, *average, "M parameters", "GFLOP/image", "s/image", "score"]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for row in rows:
        own = [cells[row, column] for column in columns if (row, column) in cells]
        shown = [
            f"{100 * cells[row, column].miou:.1f}" if (row, column) in cells else "–" for column in columns
        ]
        mean = float(np.mean([cell.miou for cell in own])) if own else math.nan
        complete = len(own) == len(columns)
        lines.append(
            f"| {' | '.join([row, *shown, *([_percent(mean) if complete else '–'] * len(average)), *_costs(own, mean)])} |"
        )
    return "\n".join([*lines, ""])


def _costs(cells: Sequence[Cell], miou: float) -> list[str]:
    if not cells:
        return ["–"] * 4
    seconds = float(np.mean([cell.efficiency.seconds for cell in cells]))
    operations = float(np.mean([cell.efficiency.operations for cell in cells]))
    known = not math.isnan(seconds) and operations > 0
    return [
        f"{cells[0].efficiency.parameters / 1e6:.1f}",
        f"{operations / 1e9:.1f}",
        f"{seconds:.3f}" if known else "–",
        f"{tg_clip_score(miou, seconds, operations):.1f}" if known else "–",
    ]


def _numbers(stored: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {key: math.nan if value is None else value for key, value in stored.items()}


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
