"""A log that is always there: one CSV line per value, appended, valid after a kill and across resumptions."""

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from lexiseg.storage import write_atomically, writing

FILE_NAME = "metrics.csv"
_HEADER = ("step", "name", "value")


class CsvLog(Logger):
    """``metrics.csv`` in long form (step, name, value).

    Lightning's own CSV logger rewrites its file and deletes what an earlier part of the same run wrote; this one
    appends, and on resuming drops only what lies beyond the step that the run goes back to.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path | str) -> None:
        super().__init__()
        self.path = Path(folder) / FILE_NAME

    @property
    def name(self) -> str:
        """Lightning asks every logger for a name."""
        return "csv"

    @property
    def version(self) -> str:
        """Lightning asks every logger for a version; a run folder has one."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Path:
        """The file."""
        return self.path

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's configuration stands in ``config.yaml`` beside the log."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one line per value."""
        with writing(self.path):
            self._append(metrics, step)

    def _append(self, metrics: Mapping[str, float], step: int | None) -> None:
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(_HEADER)
            writer.writerows((step, name, value) for name, value in metrics.items() if name != "epoch")

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget lines after ``step``, and a line that a kill cut short; they will be written again."""
        if not self.path.exists():
            return
        with self.path.open(newline="", errors="replace") as file:
            rows = [row for row in csv.reader(file) if len(row) == len(_HEADER)]
        kept = [row for row in rows[1:] if row[0].isdigit() and int(row[0]) < step]

        def write(part: Path) -> None:
            with part.open("w", newline="") as file:
                csv.writer(file).writerows([_HEADER, *kept])

        write_atomically(self.path, write)
