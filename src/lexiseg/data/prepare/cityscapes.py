"""Cityscapes: its label maps with 34 ids become ``*_gtFine_labelTrainIds.png`` with 19.

Of the archive gtFine_trainvaltest.zip the ``*_gtFine_labelIds.png`` are enough: they were drawn from the
polygons in the same order, and every id has one training id, so that mapping them gives what drawing the
polygons anew gives.
"""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.constants import IGNORE_INDEX
from lexiseg.data.datasets.cityscapes import MASK_SUFFIX, PARTITIONS, PUBLISHED_COUNTS, TITLE
from lexiseg.data.datasets.files import layout_error
from lexiseg.data.io import read_label
from lexiseg.data.prepare.conversion import Job, Report, count_note, empty_table, remap, run_jobs

SOURCE_TREE = """
cityscapes/                                            <- the root
    gtFine/train/CITY/*_gtFine_labelIds.png            from gtFine_trainvaltest.zip
    gtFine/val/CITY/*_gtFine_labelIds.png
"""
RAW_SUFFIX = "_gtFine_labelIds.png"
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The 19 evaluated of Cityscapes' 34 ids, in class order: road, sidewalk, building, wall, fence, pole, traffic
light, traffic sign, vegetation, terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle. The
others (void, parking, rail track, guard rail, bridge, tunnel, pole group, caravan, trailer) do not count."""

_RAW_IDS = 34


def prepare_cityscapes(root: str | Path, source: str | Path | None = None) -> Report:
    """Make ``gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png``.

    Args:
        root: The folder with ``leftImg8bit`` and ``gtFine``.
        source: Folder that holds ``train`` and ``val`` with the label maps of 34 ids; None: ``gtFine``.

    Raises:
        DataError: No label map of 34 ids is there.
    """
    root = Path(root)
    raw = Path(source) if source is not None else root / "gtFine"
    jobs, notes = [], []
    for partition in PARTITIONS:
        files = sorted((raw / partition).glob(f"*/*{RAW_SUFFIX}"))
        target = root / "gtFine" / partition
        jobs += [Job(target / _converted(path), partial(to_train_ids, path)) for path in files]
        notes.append(count_note(partition, len(files), PUBLISHED_COUNTS[partition]))
    if not jobs:
        problem = f"no train/CITY/*{RAW_SUFFIX} and no val/CITY/*{RAW_SUFFIX}"
        raise layout_error(raw, problem, title=TITLE, tree=SOURCE_TREE, hint="or give --source FOLDER")
    report = run_jobs(jobs, "Cityscapes label maps")
    report.notes += notes
    return report


def to_train_ids(path: Path) -> npt.NDArray[np.uint8]:
    """Ids 0-18 ``(H, W)`` of one label map with 34 ids; what is not evaluated becomes 255.

    Raises:
        DataError: The file is damaged or holds ids that no Cityscapes label map has.
    """
    table = empty_table(256)
    table[:_RAW_IDS] = IGNORE_INDEX
    table[list(EVALUATED)] = np.arange(len(EVALUATED))
    return remap(read_label(path), table, path)


def _converted(path: Path) -> Path:
    return Path(path.parent.name) / f"{path.name.removesuffix(RAW_SUFFIX)}{MASK_SUFFIX}"
