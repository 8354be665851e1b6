"""Files that are either whole or absent, and progress that a terminal can show."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file so that a kill at any moment leaves the old file, the new one, or none; never a part.

    Args:
        path: Where the file goes; folders are made.
        write: Called with a binary stream.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)  # noqa: PTH105  (Path.replace is the same call; the name says atomic)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """`write_whole` for UTF-8 text."""
    write_whole(path, lambda stream: (stream.write(text.encode()), None)[1])


def with_progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the items behind a progress bar on standard error; silent where there is no terminal."""
    console = Console(stderr=True)
    yield from track(
        items, description, total, console=console, transient=True, disable=not console.is_terminal
    )
