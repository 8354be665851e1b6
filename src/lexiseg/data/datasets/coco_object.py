"""COCO-Object: the 80 things of COCO-Stuff 164k, and everything else as background."""

from pathlib import Path
from typing import Literal

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets import coco_stuff
from lexiseg.data.datasets.coco_stuff import FOLDERS
from lexiseg.data.datasets.files import LabelledFiles, pair_partition
from lexiseg.data.schema import Background, zero_background_schema

TITLE = "COCO-Object"
TREE = """
coco_stuff164k/                                       <- the root
    images/train2017/*.jpg, images/val2017/*.jpg
    annotations/train2017/*_instanceTrainIds.png      80 classes as 1-80, 0 = background
    annotations/val2017/*_instanceTrainIds.png
"""
HINT = "to make *_instanceTrainIds.png from COCO-Stuff's raw *.png run: lexiseg data prepare coco_object --root FOLDER"
MASK_SUFFIX = "_instanceTrainIds.png"
THINGS = 80
"""The first so many classes of COCO-Stuff."""
PUBLISHED_COUNTS = coco_stuff.PUBLISHED_COUNTS


class CocoObject(LabelledFiles):
    """COCO-Object as GroupViT, TCL and SCLIP score it: 80 things and background, on COCO 2017's photographs.

    The label maps are made from COCO-Stuff's, not from COCO's instances; despite their published name they
    hold classes. The published conversion calls unlabelled pixels background too, see
    `lexiseg.data.prepare.coco_object`; raw 255 in label maps made otherwise takes no part.

    Args:
        root: The folder ``coco_stuff164k``.
        partition: ``train`` or ``val``.
        background: ``class`` (as published) or ``threshold`` puts "background" before the 80 classes as class
            0; ``ignore`` leaves the 80 classes alone.

    Raises:
        DataError: The layout is not there or files are missing.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        partition: Literal["train", "val"] = "train",
        background: Background = "class",
    ) -> None:
        pairs = pair_partition(
            Path(root), FOLDERS[partition], mask_suffix=MASK_SUFFIX, title=TITLE, tree=TREE, hint=HINT
        )
        things = [names[0] for names in builtin_classes("coco_stuff")[:THINGS]]
        classes, schema = zero_background_schema(things, background)
        super().__init__(pairs=pairs, words=tuple((name,) for name in classes), schema=schema)
