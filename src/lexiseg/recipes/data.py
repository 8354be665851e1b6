"""Data sets by the names and folders that a user gives: opened, prepared, verified, split."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import yaml

from lexiseg.data.check import ClassRow, class_rows, findings
from lexiseg.data.datasets.catalogue import CATALOGUE, open_dataset
from lexiseg.data.datasets.files import LabelledFiles
from lexiseg.data.datasets.folder import FolderDataset
from lexiseg.data.prepare.ade20k_full import prepare_ade20k_full
from lexiseg.data.prepare.cityscapes import prepare_cityscapes
from lexiseg.data.prepare.coco_object import prepare_coco_object
from lexiseg.data.prepare.coco_stuff import prepare_coco_stuff
from lexiseg.data.prepare.context import prepare_context
from lexiseg.data.prepare.context459 import prepare_context459
from lexiseg.data.prepare.conversion import Report, count_note
from lexiseg.data.prepare.voc import prepare_voc
from lexiseg.data.scan import LabelScan, scan_labels
from lexiseg.data.splits import make_split
from lexiseg.data.toy.world import ToyWorld
from lexiseg.errors import ConfigError, DataError
from lexiseg.recipes.conf_files import choices, conf_dir
from lexiseg.types import ClassSplit, SegmentationDataset

_CONVERTERS: dict[str, Callable[..., Report]] = {
    "voc": prepare_voc,
    "context": prepare_context,
    "context459": prepare_context459,
    "ade20k_full": prepare_ade20k_full,
    "coco_stuff": prepare_coco_stuff,
    "coco_object": prepare_coco_object,
    "cityscapes": prepare_cityscapes,
}
_TOY_SAMPLES = 1000
_SPLIT_KEYS = {"name", "unseen", "seen", "setting", "unseen_pixels"}


@dataclass(frozen=True)
class DataPlace:
    """Where a data set is, as a user says it.

    Attributes:
        name: A known data set, ``toy``, ``folder``, or the path of a folder.
        root: The data set's folder; None for ``data/`` and its usual place there.
        partition: None for the one that training uses.
        images: Of ``folder``: the images, where they are not in ``root/images``.
        masks: Likewise the label maps.
        classes: Likewise the class file.
        mask_suffix: The label map of ``a.jpg`` is ``a`` and this.
    """

    name: str
    root: Path | None = None
    partition: str | None = None
    images: Path | None = None
    masks: Path | None = None
    classes: Path | None = None
    mask_suffix: str = ".png"


def open_place(place: DataPlace) -> SegmentationDataset:
    """Open the data set.

    Raises:
        DataError: Neither a name nor a folder, or what is needed is not there.
    """
    if place.name == "toy":
        return ToyWorld(
            partition=cast(Literal["train", "val"], place.partition or "train"), length=_TOY_SAMPLES
        )
    if place.name in CATALOGUE:
        return open_dataset(place.name, place.root or usual_root(place.name), place.partition)
    base, partition = place.root or Path(place.name), place.partition or "train"
    if place.name != "folder" and not base.is_dir():
        raise DataError(
            f"'{place.name}' is neither a data set ({', '.join(CATALOGUE)}, toy, folder) nor a folder; check "
            "the spelling"
        )
    return FolderDataset(
        images=place.images or base / "images" / partition,
        masks=place.masks or base / "masks" / partition,
        classes=place.classes or base / "classes.txt",
        mask_suffix=place.mask_suffix,
    )


def usual_root(name: str) -> Path:
    """Where a known data set lies unless told otherwise."""
    return Path("data") / CATALOGUE[name].folder


def prepare_data(name: str, root: Path | None = None, source: Path | None = None) -> Report:
    """Convert what a known data set's layout needs and its download lacks; one that comes as it is needed is verified.

    Args:
        name: A key of :data:`~lexiseg.data.datasets.catalogue.CATALOGUE`.
        root: Its folder; None for the usual place.
        source: Where the raw annotations are; None for their usual place.

    Raises:
        DataError: The files are not there.
    """
    root = root or usual_root(name)
    converter = _CONVERTERS.get(name)
    return converter(root, source) if converter else _verify(name, root)


@dataclass(frozen=True)
class DataCheck:
    """What a data set really contains.

    Attributes:
        dataset: Opened.
        scan: Its labels, counted.
        split: Which of its classes are unseen, if that is known.
    """

    dataset: SegmentationDataset
    scan: LabelScan
    split: ClassSplit | None = None

    @property
    def rows(self) -> list[ClassRow]:
        """The label histogram, in label-id order."""
        return class_rows(self.dataset.classes, self.scan, self.split)

    @property
    def mapping(self) -> list[tuple[str, str]] | None:
        """Raw ids of the label maps and what they mean; None where labels are not read from files."""
        if not isinstance(self.dataset, LabelledFiles):
            return None
        return list(self.dataset.schema.describe(self.dataset.classes))

    @property
    def notes(self) -> list[str]:
        """What deserves a second look before training, in sentences."""
        return findings(self.dataset.classes, self.scan, self.split)


def check_data(place: DataPlace, split: str | None = None) -> DataCheck:
    """Open a data set and read every label map of it.

    Args:
        place: Where it is.
        split: A split of ``conf/split`` by its name, or a YAML file.

    Raises:
        ConfigError: No such split, or one of other classes.
        DataError: No such data set, files that are missing, or a label map that cannot be read.
    """
    dataset = open_place(place)
    chosen = read_split(find_split(split), dataset.classes) if split else None
    return DataCheck(dataset, scan_labels(dataset), chosen)


def find_split(name: str) -> Path:
    """A split of ``conf/split`` by its name, or the YAML file given.

    Raises:
        ConfigError: There is none.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = conf_dir() / "split" / f"{name}.yaml"
    if not path.exists():
        raise ConfigError(
            f"no split '{name}'; there are {', '.join(choices('train', 'split'))}, or give a YAML file"
        )
    return path


def read_split(path: Path, classes: tuple[str, ...]) -> ClassSplit:
    """The split that a YAML file describes.

    Raises:
        ConfigError: Not the keys of a split, or names that the classes lack.
    """
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(settings, dict) or not {"name", "unseen"} <= set(settings) <= _SPLIT_KEYS:
        raise ConfigError(f"{path}: expected the keys name, unseen and perhaps seen, setting, unseen_pixels")
    return make_split(classes, **settings)


def _verify(name: str, root: Path) -> Report:
    """Read every sample to know."""
    report = Report()
    entry = CATALOGUE[name]
    for partition in entry.required_partitions(root):
        dataset = open_dataset(name, root, partition)
        report.skipped += len(dataset)
        report.notes.append(count_note(partition, len(dataset), entry.counts[partition]))
        for index, pair in enumerate(dataset.pairs):
            try:
                dataset[index]
            except DataError as error:
                report.failed.append((pair.mask, str(error)))
    return report
