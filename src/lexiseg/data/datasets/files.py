"""Pairs of photograph and label map on disk: found once, read when asked for."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.data.class_files import Words
from lexiseg.data.io import IMAGE_SUFFIXES, image_size, read_image, read_label
from lexiseg.data.schema import LabelSchema
from lexiseg.errors import DataError
from lexiseg.label_codes import LabelMap
from lexiseg.types import Sample

_SHOWN = 5
"""How many missing files a message lists before it counts the rest."""


@dataclass(frozen=True)
class Pair:
    """One photograph and the label map that belongs to it."""

    image: Path
    mask: Path
    name: str


class LabelledFiles:
    """A data set of file pairs; the data sets with a known layout only say which pairs.

    Args:
        pairs: The files.
        words: Per class its name and synonyms, in label-id order.
        schema: What raw ids mean.

    Attributes:
        pairs: The files.
        words: As given.
        schema: As given.
        stuff: Names of the classes that are not counted one by one; None where the data set does not say.
    """

    stuff: tuple[str, ...] | None = None

    def __init__(self, *, pairs: Sequence[Pair], words: Words, schema: LabelSchema) -> None:
        self.pairs = tuple(pairs)
        self.words = words
        self.schema = schema

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label-id order."""
        return tuple(names[0] for names in self.words)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            DataError: A file is damaged, the label map has another size than its photograph, or it holds
                an id outside the schema.
        """
        pair = self.pairs[index]
        label = self.read_label(index)
        return Sample(read_image(pair.image), label, pair.name)

    def read_label(self, index: int) -> LabelMap:
        """Class ids ``(H, W)`` of one label map; of its photograph only the size is read.

        Raises:
            DataError: As for a whole sample, a damaged photograph apart.
        """
        mask = self.pairs[index].mask
        return self.require_size(index, self.schema.apply(read_label(mask), mask))

    def require_size(self, index: int, label: LabelMap) -> LabelMap:
        """The label map itself, if its photograph has the same size.

        Raises:
            DataError: It has not.
        """
        pair = self.pairs[index]
        size = image_size(pair.image)
        if size != label.shape:
            raise DataError(
                f"image {pair.image} is {size[0]}x{size[1]} (height x width) but its label map "
                f"{pair.mask} is {label.shape[0]}x{label.shape[1]}; both must have the same size (a "
                "photograph with an EXIF orientation is turned before comparing)"
            )
        return label

    def fingerprint(self) -> str:
        """Changes whenever a label map, its place in the list, a class name or the schema does."""
        digest = hashlib.sha256(repr((self.words, self.schema)).encode())
        for pair in self.pairs:
            status = pair.mask.stat()
            digest.update(f"{pair.mask}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:24]


def require_folders(root: Path, needed: Iterable[str], *, title: str, tree: str, hint: str = "") -> None:
    """Stop unless every needed file or folder lies under ``root``.

    Args:
        root: Where the data set should lie.
        needed: Paths relative to ``root``.
        title: The data set's name for the message.
        tree: The expected layout, drawn.
        hint: What else may help.

    Raises:
        DataError: With the layout, where it was looked for, and what is missing.
    """
    missing = [name for name in needed if not (root / name).exists()] if root.is_dir() else [str(root)]
    if missing:
        raise layout_error(root, f"missing: {', '.join(missing)}", title=title, tree=tree, hint=hint)


def layout_error(root: Path, problem: str, *, title: str, tree: str, hint: str = "") -> DataError:
    """The one message for data that does not lie as expected."""
    drawn = "\n".join(f"    {line}" for line in tree.strip("\n").splitlines())
    return DataError(
        f"{title} not found as expected; {problem}\nlooked in: {root.absolute()}\nexpected layout:\n{drawn}\n"
        f"point the root there (on the command line: data.root=FOLDER or --root FOLDER){hint and '; ' + hint}"
    )


def list_files(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Files of ``folder`` with one of the endings, by stem, in the order of their names.

    Raises:
        DataError: Two files share a stem, so that a label map could belong to either.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(tuple(suffixes)):
            continue
        if path.stem in found:
            raise DataError(
                f"{found[path.stem].name} and {path.name} in {folder} share the stem '{path.stem}'; "
                "keep one of them"
            )
        found[path.stem] = path
    return found


def pair_folders(
    images: Path, masks: Path, *, mask_suffix: str = ".png", title: str, tree: str, hint: str = ""
) -> tuple[Pair, ...]:
    """Pair ``STEM.jpg`` (or another image ending) with ``STEM`` + ``mask_suffix``.

    Raises:
        DataError: No image, or images without a label map.
    """
    photos = list_files(images)
    labels = {path.name for path in masks.iterdir()}
    if not photos:
        raise layout_error(images, "no image in that folder", title=title, tree=tree, hint=hint)
    missing = [stem + mask_suffix for stem in photos if stem + mask_suffix not in labels]
    if missing:
        problem = f"{len(missing)} of {len(photos)} label maps missing in {masks}: {_some(missing)}"
        raise layout_error(images.parent, problem, title=title, tree=tree, hint=hint)
    return tuple(Pair(path, masks / (stem + mask_suffix), stem) for stem, path in photos.items())


def pair_partition(
    root: Path, folder: str, *, mask_suffix: str = ".png", title: str, tree: str, hint: str = ""
) -> tuple[Pair, ...]:
    """Pairs of ``images/FOLDER`` and ``annotations/FOLDER`` under ``root``, mmsegmentation's usual layout.

    Raises:
        DataError: A folder is missing, or as for `pair_folders`.
    """
    images, masks = f"images/{folder}", f"annotations/{folder}"
    require_folders(root, (images, masks), title=title, tree=tree, hint=hint)
    return pair_folders(
        root / images, root / masks, mask_suffix=mask_suffix, title=title, tree=tree, hint=hint
    )


def read_name_list(path: Path) -> list[str]:
    """Sample names of an ``ImageSets`` list, one a line, in its order.

    Raises:
        DataError: An empty list or a line that is not a bare name.
    """
    names = path.read_text(encoding="utf-8").split("\n")
    names = [name.strip() for name in names if name.strip()]
    odd = [name for name in names if "/" in name or len(name.split()) > 1]
    if not names or odd:
        problem = f"line {odd[0]!r}" if odd else "an empty file"
        raise DataError(f"{path}: expected one image name a line without folder or ending, came {problem}")
    return names


def first_existing(root: Path, candidates: Iterable[str]) -> Path | None:
    """The first of several places under ``root`` that exists."""
    return next((root / name for name in candidates if (root / name).exists()), None)


def require_files(pairs: Sequence[Pair], *, root: Path, title: str, tree: str, hint: str = "") -> None:
    """Stop unless both files of every pair exist; each folder is listed once, which stays fast on 100k files.

    Raises:
        DataError: With the first missing files and their number.
    """
    paths = [path for pair in pairs for path in (pair.image, pair.mask)]
    listed = {folder: {item.name for item in folder.iterdir()} for folder in {path.parent for path in paths}}
    missing = [str(path.relative_to(root)) for path in paths if path.name not in listed[path.parent]]
    if missing:
        problem = f"{len(missing)} files missing: {_some(missing)}"
        raise layout_error(root, problem, title=title, tree=tree, hint=hint)


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
