"""PASCAL Context with its 59 frequent classes, on the photographs of VOC 2010."""

from pathlib import Path
from typing import Literal

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets.files import LabelledFiles, Pair, read_name_list, require_files, require_folders
from lexiseg.data.schema import Background, zero_background_schema

TITLE = "PASCAL Context"
TREE = """
VOCdevkit/VOC2010/                    <- the root
    JPEGImages/*.jpg
    SegmentationClassContext/*.png    59 classes as 1-59, 0 = everything else
    ImageSets/SegmentationContext/train.txt, val.txt
"""
HINT = "to make the label maps run: lexiseg data prepare context --root FOLDER"
PUBLISHED_COUNTS = {"train": 4996, "val": 5104}


class PascalContext(LabelledFiles):
    """PASCAL Context in mmsegmentation's layout: 59 classes in alphabetical order.

    Args:
        root: The folder ``VOCdevkit/VOC2010``.
        partition: ``train`` or ``val``.
        background: ``ignore`` (mmsegmentation's ``reduce_zero_label``, 59 classes); ``class`` or
            ``threshold`` puts "background" before them as class 0.

    Raises:
        DataError: The layout is not there or files are missing.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        partition: Literal["train", "val"] = "train",
        background: Background = "ignore",
    ) -> None:
        root = Path(root)
        list_file = f"ImageSets/SegmentationContext/{partition}.txt"
        needed = ("JPEGImages", "SegmentationClassContext", list_file)
        require_folders(root, needed, title=TITLE, tree=TREE, hint=HINT)
        images, masks = root / "JPEGImages", root / "SegmentationClassContext"
        names = read_name_list(root / list_file)
        pairs = [Pair(images / f"{name}.jpg", masks / f"{name}.png", name) for name in names]
        require_files(pairs, root=root, title=TITLE, tree=TREE, hint=HINT)
        words = builtin_classes("context")
        classes, schema = zero_background_schema([names[0] for names in words], background)
        super().__init__(pairs=pairs, words=tuple((name,) for name in classes), schema=schema)
