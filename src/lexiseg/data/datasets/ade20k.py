"""ADE20K: 150 classes of indoor and outdoor scenes, as the 2016 scene parsing challenge took them."""

from pathlib import Path
from typing import Literal

from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets.files import LabelledFiles, pair_partition
from lexiseg.data.schema import zero_background_schema

TITLE = "ADE20K"
TREE = """
ade/ADEChallengeData2016/             <- the root
    images/training/*.jpg             images/validation/*.jpg
    annotations/training/*.png        150 classes as 1-150, 0 = everything else
    annotations/validation/*.png
"""
FOLDERS = {"train": "training", "val": "validation"}
PUBLISHED_COUNTS = {"train": 20210, "val": 2000}

_STUFF = (
    0, 1, 2, 3, 4, 5, 6, 9, 11, 13, 16, 17, 21, 25, 26, 28, 29, 34, 40, 46, 48, 51, 52, 54, 59, 60, 61, 63, 68, 77, 79, 84, 91,
    94, 96, 99, 100, 101, 105, 106, 109, 113, 114, 117, 122, 128, 131, 140, 141, 145,
)  # fmt: skip
"""Class ids of what the panoptic annotations of these photographs do not count; the other hundred are the instance
challenge's."""


class ADE20K(LabelledFiles):
    """ADE20K in mmsegmentation's layout, which is that of ADEChallengeData2016.zip: 150 classes.

    Raw 0 takes no part and raw i is class i - 1 (mmsegmentation's ``reduce_zero_label``).

    Args:
        root: The folder ``ADEChallengeData2016``.
        partition: ``train`` or ``val``.

    Raises:
        DataError: The layout is not there or files are missing.
    """

    def __init__(self, *, root: str | Path, partition: Literal["train", "val"] = "train") -> None:
        pairs = pair_partition(Path(root), FOLDERS[partition], title=TITLE, tree=TREE)
        words = builtin_classes("ade20k")
        _, schema = zero_background_schema([names[0] for names in words], "ignore")
        super().__init__(pairs=pairs, words=words, schema=schema)
        self.stuff = tuple(self.classes[index] for index in _STUFF)
