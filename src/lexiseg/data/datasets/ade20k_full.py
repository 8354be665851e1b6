"""ADE20K with all 847 classes of the full release, as MaskFormer prepared it and open-vocabulary methods score it."""

from pathlib import Path
from typing import Literal

from lexiseg.data.datasets.class_list import read_class_list
from lexiseg.data.datasets.files import LabelledFiles, pair_folders, require_folders
from lexiseg.data.schema import plain_schema

TITLE = "ADE20K-847"
TREE = """
ADE20K_2021_17_01/                               <- the root
    images_detectron2/training/*.jpg             images_detectron2/validation/*.jpg
    annotations_detectron2/training/*.tif        847 classes as 0-846 in 16 bits, 65535 = everything else
    annotations_detectron2/validation/*.tif
    classes.txt                                  847 lines in the order of the ids: NAME, or ID: NAME; SYNONYM
"""
HINT = (
    "to make both folders from images/ADE of the release run: lexiseg data prepare ade20k_full --root FOLDER; its classes.txt "
    "has the release's index of each class before the name"
)
CLASSES = 847
CLASS_FILE = "classes.txt"
FOLDERS = {"train": "training", "val": "validation"}
PUBLISHED_COUNTS = {"train": 25574, "val": 2000}


def required_partitions(root: Path) -> tuple[str, ...]:
    """Those that are there, validation at least: most need the training images of this set for nothing."""
    kept = (
        name for name in PUBLISHED_COUNTS if name != "train" or (root / "images_detectron2/training").is_dir()
    )
    return tuple(kept)


class ADE20KFull(LabelledFiles):
    """ADE20K-847 in detectron2's layout, short sides of at most 512 pixels as published.

    Args:
        root: The folder ``ADE20K_2021_17_01``.
        partition: ``train`` or ``val``.

    Raises:
        DataError: The layout is not there, files are missing, or the class list has not 847 lines.
    """

    def __init__(self, *, root: str | Path, partition: Literal["train", "val"] = "train") -> None:
        root, folder = Path(root), FOLDERS[partition]
        images, masks = f"images_detectron2/{folder}", f"annotations_detectron2/{folder}"
        require_folders(root, (images, masks, CLASS_FILE), title=TITLE, tree=TREE, hint=HINT)
        _, words = read_class_list(root / CLASS_FILE, CLASSES, root=root, title=TITLE, tree=TREE)
        pairs = pair_folders(
            root / images, root / masks, mask_suffix=".tif", title=TITLE, tree=TREE, hint=HINT
        )
        super().__init__(pairs=pairs, words=words, schema=plain_schema(len(words)))
