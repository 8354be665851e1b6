"""What a data set really contains, before a run depends on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lexiseg.data.scan import LabelScan
from lexiseg.drawing.overlay import annotate, panels
from lexiseg.errors import ConfigError
from lexiseg.progress import with_progress
from lexiseg.storage import write_png
from lexiseg.types import ClassSplit, SegmentationDataset


@dataclass(frozen=True)
class ClassRow:
    """One class of a data set.

    Attributes:
        index: Label id.
        name: Class name.
        role: ``seen``, ``unseen``, or empty without a split.
        pixels: Labelled pixels.
        share: Percent of all labelled pixels.
        images: Images that show it.
    """

    index: int
    name: str
    role: str
    pixels: int
    share: float
    images: int


def class_rows(classes: Sequence[str], scan: LabelScan, split: ClassSplit | None) -> list[ClassRow]:
    """The label histogram as rows, in label-id order."""
    pixels, images = scan.pixels, scan.images
    labelled = max(1, int(pixels[:-1].sum()))
    return [
        ClassRow(i, name, _role(name, split), int(pixels[i]), 100 * pixels[i] / labelled, int(images[i]))
        for i, name in enumerate(classes)
    ]


def findings(classes: Sequence[str], scan: LabelScan, split: ClassSplit | None) -> list[str]:
    """What deserves a second look before training, in sentences."""
    notes = []
    absent = [name for i, name in enumerate(classes) if scan.pixels[i] == 0]
    if absent:
        notes.append(f"no pixel of: {', '.join(absent)}")
    if scan.unlabelled:
        notes.append(f"{scan.unlabelled} of {scan.scanned} label maps have no labelled pixel at all")
    if scan.scanned < scan.total:
        notes.append(f"generated data: the first {scan.scanned} of {scan.total} samples were looked at")
    if split is not None and split.unseen:
        shows = int((scan.counts[:, list(split.unseen_ids)].sum(1) > 0).sum())
        notes.append(
            f"{shows} of {scan.scanned} images show unseen classes; unseen_pixels={split.unseen_pixels}, so "
            "training "
            + ("keeps them, without those labels" if split.unseen_pixels == "shown" else "leaves them out")
        )
    return notes


def write_overlays(
    dataset: SegmentationDataset, folder: Path, count: int, split: ClassSplit | None = None
) -> list[Path]:
    """Write ``count`` pictures of photograph beside label map with legend, spread evenly over the data set.

    Args:
        dataset: Any data set.
        folder: Where ``NAME_overlay.png`` go; made if it is not there.
        count: How many; fewer if the data set is smaller.
        split: Unseen classes are hatched.

    Returns:
        The files written.

    Raises:
        ConfigError: A negative count.
        DataError: A sample cannot be read.
    """
    if count < 0:
        raise ConfigError(f"cannot draw {count} overlays; give 0 or more")
    indices = sorted({i * len(dataset) // count for i in range(count)}) if count else []
    hatched = () if split is None else split.unseen
    written = []
    for index in with_progress(indices, "drawing overlays", len(indices)):
        sample = dataset[index]
        labelled = annotate(sample.image, sample.label, dataset.classes, hatched=hatched)
        sheet = panels([sample.image, labelled], [sample.name, "label map"], min_side=360)
        path = folder / f"{Path(sample.name).name}_overlay.png"
        write_png(sheet, path)
        written.append(path)
    return written


def _role(name: str, split: ClassSplit | None) -> str:
    if split is None:
        return ""
    return "unseen" if name in split.unseen else "seen"
