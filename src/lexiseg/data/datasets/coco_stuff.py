"""COCO-Stuff 164k: 80 things and 91 stuff classes on the photographs of COCO 2017."""

from pathlib import Path
from typing import Literal

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets.files import LabelledFiles, pair_partition
from lexiseg.data.schema import plain_schema

TITLE = "COCO-Stuff 164k"
TREE = """
coco_stuff164k/                                       <- the root
    images/train2017/*.jpg, images/val2017/*.jpg
    annotations/train2017/*_labelTrainIds.png         171 classes as 0-170, 255 = unlabelled
    annotations/val2017/*_labelTrainIds.png
"""
HINT = "to make *_labelTrainIds.png from the raw *.png run: lexiseg data prepare coco_stuff --root FOLDER"
MASK_SUFFIX = "_labelTrainIds.png"
FOLDERS = {"train": "train2017", "val": "val2017"}
PUBLISHED_COUNTS = {"train": 118287, "val": 5000}


class CocoStuff(LabelledFiles):
    """COCO-Stuff 164k in mmsegmentation's layout: 171 classes.

    The annotation folders may also hold the raw ``*.png`` (182 ids with gaps) and ``*_instanceTrainIds.png``;
    only ``*_labelTrainIds.png`` is read, because the other two number the classes differently.

    Args:
        root: The folder ``coco_stuff164k``.
        partition: ``train`` or ``val``.

    Raises:
        DataError: The layout is not there or files are missing.
    """

    def __init__(self, *, root: str | Path, partition: Literal["train", "val"] = "train") -> None:
        pairs = pair_partition(
            Path(root), FOLDERS[partition], mask_suffix=MASK_SUFFIX, title=TITLE, tree=TREE, hint=HINT
        )
        words = builtin_classes("coco_stuff")
        super().__init__(pairs=pairs, words=words, schema=plain_schema(len(words)))
