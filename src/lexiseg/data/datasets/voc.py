"""PASCAL VOC 2012, with the training masks that the SBD data set adds."""

from pathlib import Path
from typing import Literal

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets.files import (
    LabelledFiles,
    Pair,
    layout_error,
    read_name_list,
    require_files,
    require_folders,
)
from lexiseg.data.schema import Background, zero_background_schema

TITLE = "PASCAL VOC 2012"
TREE = """
VOCdevkit/VOC2012/                    <- the root
    JPEGImages/*.jpg
    SegmentationClass/*.png           20 classes, 0 = background, 255 = border
    SegmentationClassAug/*.png        for trainaug: from SBD
    ImageSets/Segmentation/train.txt, val.txt
    ImageSets/Segmentation/aug.txt or trainaug.txt   for trainaug
"""
PUBLISHED_COUNTS = {"train": 1464, "val": 1449, "trainaug": 10582}


class PascalVoc(LabelledFiles):
    """PASCAL VOC 2012 in mmsegmentation's layout: 20 classes.

    ``trainaug`` is the published training set: VOC's own ``train`` plus the SBD masks (10,582 images), where
    a VOC mask wins over an SBD mask of the same photograph. The zero-shot protocol ignores the background.

    Args:
        root: The folder ``VOCdevkit/VOC2012``.
        partition: ``train``, ``trainaug`` or ``val``.
        background: ``ignore`` for the 20 classes of the zero-shot protocol; ``class`` or ``threshold`` puts
            "background" before them as class 0.

    Raises:
        DataError: The layout is not there or files are missing.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        partition: Literal["train", "trainaug", "val"] = "trainaug",
        background: Background = "ignore",
    ) -> None:
        root = Path(root)
        hint = "for trainaug run: lexiseg data prepare voc --root FOLDER" if partition == "trainaug" else ""
        lists = "ImageSets/Segmentation"
        first = "val" if partition == "val" else "train"
        needed = ["JPEGImages", "SegmentationClass", f"{lists}/{first}.txt"]
        if partition == "trainaug":
            needed.append("SegmentationClassAug")
        require_folders(root, needed, title=TITLE, tree=TREE, hint=hint)
        names = read_name_list(root / lists / f"{first}.txt")
        own = set(names)
        if partition == "trainaug":
            names = list(dict.fromkeys([*names, *_added_names(root / lists, hint)]))
        pairs = [_pair(root, name, own) for name in names]
        require_files(pairs, root=root, title=TITLE, tree=TREE, hint=hint)
        words = builtin_classes("voc")
        classes, schema = zero_background_schema([names[0] for names in words], background)
        super().__init__(pairs=pairs, words=tuple((name,) for name in classes), schema=schema)


def _added_names(lists: Path, hint: str) -> list[str]:
    """Names that SBD adds; ``trainaug.txt`` may repeat VOC's own, ``aug.txt`` does not."""
    for candidate in ("aug.txt", "trainaug.txt"):
        if (lists / candidate).exists():
            return read_name_list(lists / candidate)
    raise layout_error(
        lists.parent.parent, "missing: aug.txt or trainaug.txt", title=TITLE, tree=TREE, hint=hint
    )


def _pair(root: Path, name: str, own: set[str]) -> Pair:
    folder = "SegmentationClass" if name in own else "SegmentationClassAug"
    return Pair(root / "JPEGImages" / f"{name}.jpg", root / folder / f"{name}.png", name)
