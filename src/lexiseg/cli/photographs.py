"""The photographs of a command: found, read one by one, broken ones reported and skipped."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lexiseg.data.io import IMAGE_SUFFIXES, read_image
from lexiseg.errors import DataError
from lexiseg.inference.encoding import Picture
from lexiseg.inference.result import Segmentation


@dataclass(frozen=True)
class Photograph:
    """A photograph that could be read.

    Attributes:
        path: Its file.
        stem: How its results are called.
        pixels: ``(H, W, 3)`` uint8 RGB.
    """

    path: Path
    stem: str
    pixels: Picture


Step = Callable[[str], None]
"""One step is done; the text says which comes next."""


def find_photos(patterns: Sequence[str]) -> list[Path]:
    """Files as given, images of folders, matches of globs; each once, in the order given.

    A file that does not exist stays in the list, to be reported beside the others.

    Raises:
        DataError: No image at all.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        for path in _expand(pattern):
            found.setdefault(path)
    if not found:
        raise DataError(
            f"no image found in {', '.join(patterns)}; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return list(found)


def each_photograph(
    photos: Sequence[Path],
    console: Console,
    work: Callable[[Photograph, Step], None],
    *,
    told: str,
    steps: int = 1,
) -> list[Path]:
    """Read every photograph and work on it, under a progress bar.

    Args:
        photos: Files.
        console: Where the bar stands and reports go.
        work: May raise :class:`DataError`; then the photograph counts as skipped and the rest is done.
        told: What the bar says at first.
        steps: Steps of each photograph; ``work`` may report them.

    Returns:
        The skipped ones.
    """
    failures: list[Path] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar, warnings.catch_warnings():
        # Large photographs are welcome here; Pillow warns of them as a possible attack.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        task = bar.add_task(told, total=steps * len(photos))

        def step(next_one: str) -> None:
            bar.update(task, advance=1, description=next_one)

        for number, (path, stem) in enumerate(zip(photos, result_stems(photos), strict=True), start=1):
            try:
                work(Photograph(path, stem, read_image(path)), step)
            except DataError as error:
                console.print(f"[red]skipped:[/red] {escape(str(error))}")
                failures.append(path)
            bar.update(task, completed=steps * number)
    return failures


def conclude(console: Console, photos: Sequence[Path], failures: Sequence[Path], *, done: str) -> int:
    """Say how many photographs were done and which were skipped; the exit status: 1 if any was."""
    console.print(f"{len(photos) - len(failures)} of {len(photos)} photographs {escape(done)}")
    if failures:
        names = ", ".join(escape(str(path)) for path in failures)
        console.print(f"[red]skipped {len(failures)}:[/red] {names}")
    return 1 if failures else 0


def result_stems(photos: Sequence[Path]) -> list[str]:
    """A file stem per photograph: its own; where two are the same, folder and ending join, then a number."""
    own = [path.stem for path in photos]
    stems = [
        stem if own.count(stem) == 1 else f"{path.absolute().parent.name}_{path.name.replace('.', '_')}"
        for path, stem in zip(photos, own, strict=True)
    ]
    taken: set[str] = set()
    for index, stem in enumerate(stems):
        number, name = 1, stem
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        stems[index] = name
    return stems


def describe(result: Segmentation, *, most: int = 8) -> str:
    """Classes found, largest first, with their share of the picture."""
    areas = [f"{name} {100 * area:.1f} %" for name, area in result.areas.items()]
    more = [f"and {len(areas) - most} more"] if len(areas) > most else []
    return ", ".join(areas[:most] + more)


def _expand(pattern: str) -> Iterator[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        yield from sorted(p for p in path.iterdir() if _is_image(p))
    elif path.exists() or not any(sign in pattern for sign in "*?["):
        yield path
    else:
        root = Path(path.anchor)
        yield from sorted(p for p in root.glob(str(path.relative_to(root))) if _is_image(p))


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
