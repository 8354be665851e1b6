"""The data sets by name, as the command line asks for them."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from lexiseg.errors import DataError
from lexiseg.lazy import locate

if TYPE_CHECKING:
    from lexiseg.data.datasets.files import LabelledFiles


@dataclass(frozen=True)
class Entry:
    """One known data set; its module is imported when it is opened, so that a list of names costs nothing.

    Attributes:
        place: Its class, as ``module:name`` of this package.
        folder: Where it lies under the data folder unless told otherwise.
        partitions: Training partition first, validation second, then the rest.
    """

    place: str
    folder: str
    partitions: tuple[str, ...]

    @property
    def kind(self) -> "Callable[..., LabelledFiles]":
        """Its class, built with ``root`` and ``partition``."""
        found: Callable[..., LabelledFiles] = locate(f"{__package__}.{self.place}")
        return found

    @property
    def counts(self) -> dict[str, int]:
        """Published number of images per partition."""
        return dict(self._module.PUBLISHED_COUNTS)

    def required_partitions(self, root: Path) -> tuple[str, ...]:
        """Those that have to be in its folder: all that were published, unless its module says otherwise."""
        own = getattr(self._module, "required_partitions", None)
        return tuple(self.counts if own is None else own(root))

    @property
    def _module(self) -> ModuleType:
        return import_module(f"{__package__}.{self.place.partition(':')[0]}")


CATALOGUE = {
    "voc": Entry("voc:PascalVoc", "VOCdevkit/VOC2012", ("trainaug", "val", "train")),
    "context": Entry("context:PascalContext", "VOCdevkit/VOC2010", ("train", "val")),
    "context459": Entry("context459:PascalContext459", "VOCdevkit/VOC2010", ("train", "val")),
    "coco_stuff": Entry("coco_stuff:CocoStuff", "coco_stuff164k", ("train", "val")),
    "coco_object": Entry("coco_object:CocoObject", "coco_stuff164k", ("train", "val")),
    "coco_panoptic": Entry("coco_panoptic:CocoPanoptic", "coco", ("train", "val")),
    "ade20k": Entry("ade20k:ADE20K", "ade/ADEChallengeData2016", ("train", "val")),
    "ade20k_full": Entry("ade20k_full:ADE20KFull", "ADE20K_2021_17_01", ("train", "val")),
    "cityscapes": Entry("cityscapes:Cityscapes", "cityscapes", ("train", "val")),
    "camvid": Entry("camvid:CamVid", "camvid", ("train", "val", "test")),
}


def open_dataset(name: str, root: str | Path, partition: str | None = None) -> "LabelledFiles":
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
    return entry.kind(root=root, partition=partition)
