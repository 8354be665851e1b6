"""The photographs of a command: which is being worked on, which were skipped and why."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lexiseg.progress import doing
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
    """Work on every photograph; ``told`` is what is done to it first, and each photograph has ``steps``.

    Returns:
        The skipped ones.
    """
    with doing(told, steps * len(photos)) as bar:

        def step(following: str) -> None:
            bar.advance()
            bar.description = following

        def done(number: int) -> None:
            bar.done = steps * number

        return work_through(
            photos,
            lambda photograph: work(photograph, step),
            skipped=lambda error: console.print(f"[red]skipped:[/red] {escape(str(error))}"),
            done=done,
        )


def conclude(console: Console, photos: Sequence[Path], failures: Sequence[Path], *, done: str) -> int:
    """Say how many photographs were done and which were skipped; the exit status: 1 if any was."""
    console.print(f"{len(photos) - len(failures)} of {len(photos)} photographs {escape(done)}")
    if failures:
        names = ", ".join(escape(str(path)) for path in failures)
        console.print(f"[red]skipped {len(failures)}:[/red] {names}")
    return 1 if failures else 0
