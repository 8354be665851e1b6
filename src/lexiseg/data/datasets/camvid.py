"""CamVid street scenes in the form that the SegNet tutorial distributes."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from lexiseg.constants import IGNORE_INDEX
from lexiseg.data.class_files import builtin_classes
from lexiseg.data.datasets.files import LabelledFiles, pair_folders, require_folders
from lexiseg.data.label_segments import label_segments
from lexiseg.data.schema import plain_schema
from lexiseg.types import Sample

TITLE = "CamVid"
TREE = """
camvid/                               <- the root
    train/*.png or *.jpg, trainannot/*.png     11 classes as 0-10, 11 = unlabelled
    val/                  valannot/
    test/                 testannot/           only for partition test
"""
UNLABELLED = 11
PUBLISHED_COUNTS = {"train": 367, "val": 101, "test": 233}


def required_partitions(root: Path) -> tuple[str, ...]:
    """The partitions that a download has to have: the test set is not needed, but where it lies it counts."""
    return tuple(name for name in PUBLISHED_COUNTS if name != "test" or (root / name).is_dir())


class CamVid(LabelledFiles):
    """CamVid, 480 x 360, in the SegNet tutorial's layout: 11 classes.

    Cars, pedestrians and bicyclists are things, as in Cityscapes. The label maps do not tell one from the next.

    Args:
        root: The folder with ``train``, ``trainannot`` and so on.
        partition: ``train``, ``val`` or ``test``.
        segments: Whether samples have segments: connected pieces of things, see
            :func:`~lexiseg.data.label_segments.label_segments`. Without, training sees one mask per class.

    Raises:
        DataError: The layout is not there or files are missing.
    """

    stuff = ("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence")

    def __init__(
        self,
        *,
        root: str | Path,
        partition: Literal["train", "val", "test"] = "train",
        segments: bool = False,
    ) -> None:
        root, masks = Path(root), f"{partition}annot"
        require_folders(root, (partition, masks), title=TITLE, tree=TREE)
        words = builtin_classes("camvid")
        super().__init__(
            pairs=pair_folders(root / partition, root / masks, title=TITLE, tree=TREE),
            words=words,
            schema=plain_schema(len(words), (UNLABELLED, IGNORE_INDEX)),
        )
        self._segments = segments

    def __getitem__(self, index: int) -> Sample:
        """Read one sample, with its segments if they were asked for; raises as every data set does."""
        sample = super().__getitem__(index)
        if not self._segments:
            return sample
        ids = [self.classes.index(name) for name in self.stuff]
        return replace(sample, segments=label_segments(sample.label, ids))
