"""Cityscapes: 19 classes of street scenes, 2048 x 1024, finely labelled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets.files import LabelledFiles, Pair, layout_error, require_files, require_folders
from lexiseg.data.schema import plain_schema

TITLE = "Cityscapes"
TREE = """
cityscapes/                                            <- the root
    leftImg8bit/train/CITY/*_leftImg8bit.png
    leftImg8bit/val/CITY/*_leftImg8bit.png
    gtFine/train/CITY/*_gtFine_labelTrainIds.png       19 classes as 0-18, 255 = everything else
    gtFine/val/CITY/*_gtFine_labelTrainIds.png
"""
HINT = "to make *_labelTrainIds.png from *_labelIds.png run: lexiseg data prepare cityscapes --root FOLDER"
IMAGE_SUFFIX = "_leftImg8bit.png"
MASK_SUFFIX = "_gtFine_labelTrainIds.png"
PARTITIONS = ("train", "val")
PUBLISHED_COUNTS = {"train": 2975, "val": 500}


class Cityscapes(LabelledFiles):
    """Cityscapes in mmsegmentation's layout: 19 classes.

    The folders of ``gtFine`` also hold ``*_labelIds.png`` (34 ids) and ``*_instanceIds.png``; only
    ``*_labelTrainIds.png`` is read. The test partition has no public labels.

    Args:
        root: The folder with ``leftImg8bit`` and ``gtFine``.
        partition: ``train`` or ``val``.

    Raises:
        DataError: The layout is not there or files are missing.
    """

    stuff = (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
        "sky",
    )  # fmt: skip

    def __init__(self, *, root: str | Path, partition: Literal["train", "val"] = "train") -> None:
        root = Path(root)
        images, masks = root / "leftImg8bit" / partition, root / "gtFine" / partition
        needed = [str(folder.relative_to(root)) for folder in (images, masks)]
        require_folders(root, needed, title=TITLE, tree=TREE, hint=HINT)
        pairs = list(_pairs(images, masks))
        if not pairs:
            problem = f"no CITY/*{IMAGE_SUFFIX} in {needed[0]}"
            raise layout_error(root, problem, title=TITLE, tree=TREE, hint=HINT)
        cities = sorted({str(pair.mask.parent.relative_to(root)) for pair in pairs})
        require_folders(root, cities, title=TITLE, tree=TREE, hint=HINT)
        require_files(pairs, root=root, title=TITLE, tree=TREE, hint=HINT)
        words = builtin_classes("cityscapes")
        super().__init__(pairs=pairs, words=words, schema=plain_schema(len(words)))


def _pairs(images: Path, masks: Path) -> Iterator[Pair]:
    """Photographs by city and name, each with where its label map should lie."""
    for path in sorted(images.glob(f"*/*{IMAGE_SUFFIX}")):
        name = path.name.removesuffix(IMAGE_SUFFIX)
        yield Pair(path, masks / path.parent.name / f"{name}{MASK_SUFFIX}", name)
