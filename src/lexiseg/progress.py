"""Progress of long work, shown where somebody is looking."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def with_progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the items behind a progress bar on standard error; silent where there is no terminal."""
    console = Console(stderr=True)
    yield from track(
        items, description, total, console=console, transient=True, disable=not console.is_terminal
    )
