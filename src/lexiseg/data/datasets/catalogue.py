"""The data sets by name, as the command line asks for them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lexiseg.data.datasets import ade20k, camvid, cityscapes, coco_object, coco_stuff, context, voc
from lexiseg.data.datasets.files import LabelledFiles
from lexiseg.errors import DataError


@dataclass(frozen=True)
class Entry:
    """One known data set.

    Attributes:
        build: Constructor taking ``root`` and ``partition``.
        folder: Where it lies under the data folder unless told otherwise.
        partitions: Training partition first, validation second, then the rest.
        counts: Published number of images per partition.
    """

    build: Callable[..., LabelledFiles]
    folder: str
    partitions: tuple[str, ...]
    counts: dict[str, int]


CATALOGUE = {
    "voc": Entry(voc.PascalVoc, "VOCdevkit/VOC2012", ("trainaug", "val", "train"), voc.PUBLISHED_COUNTS),
    "context": Entry(context.PascalContext, "VOCdevkit/VOC2010", ("train", "val"), context.PUBLISHED_COUNTS),
    "coco_stuff": Entry(
        coco_stuff.CocoStuff, "coco_stuff164k", ("train", "val"), coco_stuff.PUBLISHED_COUNTS
    ),
    "coco_object": Entry(
        coco_object.CocoObject, "coco_stuff164k", ("train", "val"), coco_object.PUBLISHED_COUNTS
    ),
    "ade20k": Entry(ade20k.ADE20K, "ade/ADEChallengeData2016", ("train", "val"), ade20k.PUBLISHED_COUNTS),
    "cityscapes": Entry(cityscapes.Cityscapes, "cityscapes", ("train", "val"), cityscapes.PUBLISHED_COUNTS),
    "camvid": Entry(camvid.CamVid, "camvid", ("train", "val", "test"), camvid.PUBLISHED_COUNTS),
}


def open_dataset(name: str, root: str | Path, partition: str | None = None) -> LabelledFiles:
    """Open a known data set.

    Args:
        name: A key of ``CATALOGUE``.
        root: Its root folder.
        partition: One of its partitions; None: the training partition.

    Raises:
        DataError: No such data set or partition, or the files are not there.
    """
    if name not in CATALOGUE:
        raise DataError(
            f"no data set named '{name}'; there are {', '.join(CATALOGUE)} (or give your own folders)"
        )
    entry = CATALOGUE[name]
    partition = partition or entry.partitions[0]
    if partition not in entry.partitions:
        raise DataError(f"{name} has no partition '{partition}'; it has {', '.join(entry.partitions)}")
    return entry.build(root=root, partition=partition)
