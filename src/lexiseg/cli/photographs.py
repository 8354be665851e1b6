"""The photographs of a command, under a progress bar: which is being worked on, which were skipped and why."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lexiseg.recipes.photographs import Photograph, work_through

Step = Callable[[str], None]
"""One step is done; the text says which comes next."""


def each_photograph(
    photos: Sequence[Path],
    console: Console,
    work: Callable[[Photograph, Step], None],
    *,
    told: str,
    steps: int = 1,
) -> list[Path]:
    """Work on every photograph; the bar says ``told`` at first, and each photograph has ``steps``.

    Returns:
        The skipped ones.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(told, total=steps * len(photos))
        return work_through(
            photos,
            lambda photograph: work(
                photograph, lambda following: bar.update(task, advance=1, description=following)
            ),
            skipped=lambda error: console.print(f"[red]skipped:[/red] {escape(str(error))}"),
            done=lambda number: bar.update(task, completed=steps * number),
        )


def conclude(console: Console, photos: Sequence[Path], failures: Sequence[Path], *, done: str) -> int:
    """Say how many photographs were done and which were skipped; the exit status: 1 if any was."""
    console.print(f"{len(photos) - len(failures)} of {len(photos)} photographs {escape(done)}")
    if failures:
        names = ", ".join(escape(str(path)) for path in failures)
        console.print(f"[red]skipped {len(failures)}:[/red] {names}")
    return 1 if failures else 0
