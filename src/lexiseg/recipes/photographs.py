"""The photographs of a user: found, named, read one by one, broken ones reported and skipped."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lexiseg.data.io import IMAGE_SUFFIXES, read_image
from lexiseg.errors import DataError
from lexiseg.progress import doing
from lexiseg.storage import leads_somewhere

_NAMED = 5

Step = Callable[[str], None]
"""One step is done; the text says which comes next."""


@dataclass(frozen=True)
class Photograph:
    """A photograph and the name of its results.

    Attributes:
        path: Its file.
        stem: How its results are called.
        held: Its pixels where they are in hand; None: read from the file when they are asked for.
    """

    path: Path
    stem: str
    held: npt.NDArray[np.uint8] | None = None

    @cached_property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """``(H, W, 3)`` uint8 RGB.

        Raises:
            DataError: The file cannot be read.
        """
        return read_image(self.path) if self.held is None else self.held


def find_photos(patterns: Sequence[str]) -> list[Path]:
    """Files as given, images of folders, matches of globs; each once, in the order given.

    A file that does not exist stays in the list, to be reported beside the others.

    Raises:
        DataError: No image at all, or not one that exists.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        for path in _expand(pattern):
            found.setdefault(path)
    if not found:
        raise DataError(
            f"no image found in {', '.join(patterns)}; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    if not any(leads_somewhere(path) for path in found):
        raise DataError(
            f"{', '.join(map(str, list(found)[:_NAMED]))}: no such file or folder; check the path"
        )
    return list(found)


def work_through(
    photos: Sequence[Path],
    work: Callable[[Photograph, Step], None],
    *,
    skipped: Callable[[DataError], None],
    told: str,
    steps: int = 1,
) -> list[Path]:
    """Read every photograph and work on it.

    Args:
        photos: Files.
        work: May raise :class:`DataError`; then the photograph counts as skipped and the rest is done.
        skipped: Hears why, at once.
        told: What is done to a photograph first, for the progress.
        steps: Of each photograph.

    Returns:
        The skipped ones.
    """
    failures: list[Path] = []
    with warnings.catch_warnings(), doing(told, steps * len(photos)) as progress:
        # Large photographs are welcome here; Pillow warns of them as a possible attack.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)

        def step(following: str) -> None:
            progress.advance()
            progress.description = following

        for number, (path, stem) in enumerate(zip(photos, result_stems(photos), strict=True), start=1):
            try:
                work(Photograph(path, stem), step)
            except DataError as error:
                skipped(error)
                failures.append(path)
            progress.done = steps * number
    return failures


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


def _expand(pattern: str) -> Iterator[Path]:
    try:
        yield from _places(pattern)
    except OSError as error:
        raise DataError(
            f"cannot look into {pattern[:200]} ({error.strerror or error}); check its rights"
        ) from error


def _places(pattern: str) -> Iterator[Path]:
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
