"""ADE20K-847 from the full release: which of its 3,000 and more objects count, and at which size.

As MaskFormer prepares it: the class of a pixel is ``red // 10 * 256 + green`` of ``*_seg.png``, objects outside the list of
847 take no part, and what is larger than 512 pixels on its short side is made smaller. The release's index file is a
pickle, which can run code; the folders say the same and are read instead.
"""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lexiseg.data.datasets.ade20k_full import CLASS_FILE, CLASSES, FOLDERS, PUBLISHED_COUNTS, TITLE
from lexiseg.data.datasets.class_list import read_class_list
from lexiseg.data.datasets.files import layout_error, require_folders
from lexiseg.data.io import read_image
from lexiseg.data.prepare.conversion import Job, Report, count_note, run_jobs
from lexiseg.errors import DataError
from lexiseg.label_codes import SIXTEEN_BIT
from lexiseg.ops.resize import resize_image, resize_label

SOURCE_TREE = """
ADE20K_2021_17_01/                               <- the root
    images/ADE/training/**/ADE_*.jpg             beside each its *_seg.png
    images/ADE/validation/**/ADE_*.jpg
    classes.txt                                  847 lines "ID: NAME; SYNONYM": ID is the object's number in the release
"""
SHORT_SIDE = 512
_RAW_IDS = 26 * 256
"""Numbers that the two channels can spell."""


def prepare_ade20k_full(root: str | Path, source: str | Path | None = None) -> Report:
    """Make ``images_detectron2`` and ``annotations_detectron2``.

    Args:
        root: ``ADE20K_2021_17_01``.
        source: The folder with ``training`` and ``validation``; None: ``images/ADE`` under the root.

    Raises:
        DataError: The release is not there, or the class list lacks the objects' numbers.
    """
    root = Path(root)
    found = Path(source) if source is not None else root / "images" / "ADE"
    require_folders(root, (CLASS_FILE,), title=TITLE, tree=SOURCE_TREE)
    table = object_table(root)
    photos = {part: sorted(found.glob(f"{folder}/**/ADE_*.jpg")) for part, folder in FOLDERS.items()}
    if not photos["val"]:
        raise layout_error(root, f"no validation/**/ADE_*.jpg in {found}", title=TITLE, tree=SOURCE_TREE)
    jobs = [
        job
        for part, paths in photos.items()
        for path in paths
        for job in _jobs(root, FOLDERS[part], path, table)
    ]
    report = run_jobs(jobs, "ADE20K-847 photographs and label maps")
    broken = {target.stem for target, _ in report.failed}
    for part, paths in photos.items():
        report.notes.append(
            count_note(part, sum(path.stem not in broken for path in paths), PUBLISHED_COUNTS[part])
        )
    return report


def object_table(root: Path) -> npt.NDArray[np.uint16]:
    """Object's number in the release to class id, 65535 where it counts as none.

    Raises:
        DataError: The class list has no numbers, one twice, or one that no pixel can have.
    """
    numbers, _ = read_class_list(root / CLASS_FILE, CLASSES, root=root, title=TITLE, tree=SOURCE_TREE)
    known = [number for number in numbers if number is not None and 0 < number < _RAW_IDS]
    if len(set(known)) != CLASSES:
        raise DataError(
            f"{root / CLASS_FILE}: each of the {CLASSES} lines needs the object's own number before its name, 1 to "
            f"{_RAW_IDS - 1}: '2978: wall'"
        )
    table = np.full(_RAW_IDS, SIXTEEN_BIT.ignore, dtype=np.uint16)
    table[known] = np.arange(CLASSES)
    return table


def prepared_size(height: int, width: int) -> tuple[int, int]:
    """Height and width with a short side of at most 512; the long one rounded as published."""
    if min(height, width) <= SHORT_SIDE:
        return height, width
    if width >= height:
        return SHORT_SIDE, round(width / height * SHORT_SIDE)
    return round(height / width * SHORT_SIDE), SHORT_SIDE


def to_class_ids(path: Path, table: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Ids 0-846 ``(h, w)`` of one ``*_seg.png`` at its prepared size; 65535 where no listed object is."""
    red, green, _ = np.moveaxis(read_image(path).astype(np.int64), -1, 0)
    ids = torch.from_numpy(table[red // 10 * 256 + green].view(np.int16))
    return resize_label(ids, prepared_size(*ids.shape)).numpy().view(np.uint16)


def _photograph(path: Path) -> npt.NDArray[np.uint8]:
    image = torch.from_numpy(read_image(path))
    return resize_image(image, prepared_size(image.shape[0], image.shape[1])).numpy()


def _jobs(root: Path, folder: str, path: Path, table: npt.NDArray[np.uint16]) -> tuple[Job, Job]:
    labels = root / "annotations_detectron2" / folder / f"{path.stem}.tif"
    photo = root / "images_detectron2" / folder / path.name
    seg = path.with_name(f"{path.stem}_seg.png")
    return Job(labels, partial(to_class_ids, seg, table)), Job(photo, partial(_photograph, path))
