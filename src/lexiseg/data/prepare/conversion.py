"""Conversions that mmsegmentation's layouts need, done so that they can be interrupted and repeated."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.constants import IGNORE_INDEX
from lexiseg.errors import DataError
from lexiseg.progress import with_progress
from lexiseg.storage import write_atomically

_SETTINGS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG"},
    ".tif": {"format": "TIFF", "compression": "tiff_deflate"},
    ".jpg": {"format": "JPEG"},  # at Pillow's own quality, as published preparations write theirs
}
"""How each kind of file is saved."""


@dataclass(frozen=True)
class Job:
    """One label map or photograph to make.

    Attributes:
        target: The file to write: ``.png``, ``.tif`` or ``.jpg``.
        make: Reads the source and returns ``(H, W)`` raw ids, or ``(H, W, 3)`` uint8 RGB; raises on a corrupt source.
    """

    target: Path
    make: Callable[[], npt.NDArray[np.unsignedinteger[Any]]]


@dataclass
class Report:
    """What a preparation did.

    Attributes:
        made: Label maps written now.
        skipped: Label maps that were there already.
        failed: Target and reason of those whose source could not be used.
        lists: Name lists written.
        notes: Sentences for the user.
    """

    made: int = 0
    skipped: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_jobs(jobs: Sequence[Job], description: str, *, workers: int = 4) -> Report:
    """Make every file that is not there yet; a corrupt source is noted and the others go on.

    Each file appears whole or not at all, so after a kill the same command goes on where it stopped.

    Args:
        jobs: The files.
        description: Shown beside the progress bar.
        workers: Threads.
    """
    todo = [job for job in jobs if not job.target.exists()]
    report = Report(skipped=len(jobs) - len(todo))
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for job, reason in with_progress(_outcomes(pool, todo), description, len(todo)):
            if reason is None:
                report.made += 1
            else:
                report.failed.append((job.target, reason))
    return report


def _outcomes(pool: ThreadPoolExecutor, jobs: Sequence[Job]) -> Iterable[tuple[Job, str | None]]:
    return zip(jobs, pool.map(_attempt, jobs), strict=True)


def _attempt(job: Job) -> str | None:
    """Do one job; returns what went wrong, if anything."""
    try:
        label = job.make()
    # A corrupt source may fail in any way its reader knows; the run must still finish the other files.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    image, settings = Image.fromarray(label), _SETTINGS[job.target.suffix]
    write_atomically(job.target, lambda part: image.save(part, **settings))
    return None


def remap(raw: npt.NDArray[np.integer], table: npt.NDArray[np.int16], where: object) -> npt.NDArray[np.uint8]:
    """Look raw ids up in a table whose negative entries stand for ids that must not occur.

    Raises:
        DataError: Such an id, or one beyond the table.
    """
    ids = np.unique(raw)
    wrong = [int(i) for i in ids if not 0 <= i < len(table) or table[i] < 0]
    if wrong:
        raise DataError(
            f"{where} holds ids {wrong[:5]} that this data set does not have; is it the right file?"
        )
    return table[raw].astype(np.uint8)


def empty_table(length: int) -> npt.NDArray[np.int16]:
    """A table for `remap` in which nothing is allowed yet, but the ignored code where it fits."""
    table = np.full(length, -1, dtype=np.int16)
    if length > IGNORE_INDEX:
        table[IGNORE_INDEX] = IGNORE_INDEX
    return table


def count_note(what: str, found: int, published: int) -> str:
    """One sentence that compares a count with the published one."""
    verdict = "as published" if found == published else f"published: {published}"
    return f"{what}: {found} images ({verdict})"
