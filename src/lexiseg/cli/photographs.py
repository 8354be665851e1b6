"""The photographs of a command: which is being worked on, which were skipped and why."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lexiseg.errors import DataError
from lexiseg.recipes.photographs import Photograph, Step, work_through


def each_photograph(
    photos: Sequence[Path],
    console: Console,
    work: Callable[[Photograph, Step], None],
    *,
    told: str,
    steps: int = 1,
) -> list[Path]:
    """Work on every photograph; ``told`` is what is done to it first, and each photograph has ``steps``.

    Returns:
        The skipped ones.
    """

    def skipped(error: DataError) -> None:
        console.print(f"[red]skipped:[/red] {escape(str(error))}", soft_wrap=True)

    return work_through(photos, work, skipped=skipped, told=told, steps=steps)


def conclude(console: Console, photos: Sequence[Path], failures: Sequence[Path], *, done: str) -> int:
    """Say how many photographs were done and which were skipped; the exit status: 1 if any was."""
    console.print(f"{len(photos) - len(failures)} of {len(photos)} photographs {escape(done)}")
    if failures:
        names = ", ".join(escape(str(path)) for path in failures)
        console.print(f"[red]skipped {len(failures)}:[/red] {names}", soft_wrap=True)
    return 1 if failures else 0
