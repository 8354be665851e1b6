"""PASCAL Context with all 459 classes, on the photographs of VOC 2010."""

from pathlib import Path
from typing import Literal

from lexiseg.data.datasets import context
from lexiseg.data.datasets.class_list import read_class_list
from lexiseg.data.datasets.files import (
    LabelledFiles,
    Pair,
    layout_error,
    list_files,
    require_files,
    require_folders,
)
from lexiseg.data.schema import plain_schema
from lexiseg.errors import DataError

TITLE = "PASCAL Context-459"
TREE = """
VOCdevkit/VOC2010/                               <- the root
    JPEGImages/*.jpg
    annotations_detectron2/pc459_val/*.tif       459 classes as 0-458 in 16 bits: one less than in labels.txt
    annotations_detectron2/pc459_train/*.tif     only for training
    labels.txt                                   459 lines "NUMBER: NAME" from 1, from the data set's home page
"""
HINT = "to make the label maps run: lexiseg data prepare context459 --root FOLDER"
CLASSES = 459
CLASS_FILE = "labels.txt"
PUBLISHED_COUNTS = context.PUBLISHED_COUNTS


def label_folder(partition: str) -> str:
    """Where the label maps of a partition lie, below the root."""
    return f"annotations_detectron2/pc459_{partition}"


def required_partitions(root: Path) -> tuple[str, ...]:
    """Those that are there, validation at least: published methods score this set and do not train on it."""
    return tuple(name for name in PUBLISHED_COUNTS if name != "train" or (root / label_folder(name)).is_dir())


class PascalContext459(LabelledFiles):
    """PASCAL Context with all its classes, in the layout of OVSeg and SAN.

    The validation labels show 345 of the classes, so two averages of its IoU are published; see `ZeroShotScores`.

    Args:
        root: The folder ``VOCdevkit/VOC2010``.
        partition: ``train`` or ``val``.

    Raises:
        DataError: The layout is not there, files are missing, or the class list is another one.
    """

    def __init__(self, *, root: str | Path, partition: Literal["train", "val"] = "train") -> None:
        root, folder = Path(root), label_folder(partition)
        require_folders(root, ("JPEGImages", folder, CLASS_FILE), title=TITLE, tree=TREE, hint=HINT)
        numbers, words = read_class_list(root / CLASS_FILE, CLASSES, root=root, title=TITLE, tree=TREE)
        if any(number is not None for number in numbers) and numbers != tuple(range(1, CLASSES + 1)):
            raise DataError(
                f"{root / CLASS_FILE}: the numbers before the names are not 1 to {CLASSES} in this order"
            )
        masks = list_files(root / folder, (".tif",))
        if not masks:
            raise layout_error(root, f"no .tif in {folder}", title=TITLE, tree=TREE, hint=HINT)
        pairs = [Pair(root / "JPEGImages" / f"{stem}.jpg", path, stem) for stem, path in masks.items()]
        require_files(pairs, root=root, title=TITLE, tree=TREE, hint=HINT)
        super().__init__(pairs=pairs, words=words, schema=plain_schema(len(words)))
