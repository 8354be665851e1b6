"""COCO-Stuff 164k: its own label maps with 182 ids become ``*_labelTrainIds.png`` with 171."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.data.datasets.coco_stuff import FOLDERS, MASK_SUFFIX, PUBLISHED_COUNTS, TITLE
from lexiseg.data.datasets.files import require_folders
from lexiseg.data.io import read_label
from lexiseg.data.prepare.conversion import Job, Report, count_note, empty_table, remap, run_jobs

SOURCE_TREE = """
coco_stuff164k/                                   <- the root
    annotations/train2017/*.png, annotations/val2017/*.png     from stuffthingmaps_trainval2017.zip
    images/train2017/*.jpg, images/val2017/*.jpg
"""
NEVER_LABELLED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Of the 91 thing ids (from 0), those COCO reserved and never used: street sign, hat, shoe, eye glasses,
plate, mirror, window, desk, door, blender, hair brush. Without them 182 ids are 171."""

_RAW_IDS = 182


def prepare_coco_stuff(root: str | Path, source: str | Path | None = None) -> Report:
    """Make ``annotations/{train,val}2017/*_labelTrainIds.png``.

    Args:
        root: ``coco_stuff164k``.
        source: Folder that holds ``train2017`` and ``val2017`` with the raw label maps; None:
            ``annotations``.

    Raises:
        DataError: No raw label map is there.
    """
    return convert_raw_maps(root, source, suffix=MASK_SUFFIX, convert=to_train_ids, title=TITLE)


def convert_raw_maps(
    root: str | Path,
    source: str | Path | None,
    *,
    suffix: str,
    convert: Callable[[Path], npt.NDArray[np.uint8]],
    title: str,
) -> Report:
    """Make ``annotations/{train,val}2017/STEM`` + ``suffix`` of every raw label map ``STEM.png``.

    Args:
        root: ``coco_stuff164k``.
        source: As in `prepare_coco_stuff`.
        suffix: What the converted label maps end with.
        convert: Reads one raw label map and returns the converted ids.
        title: What is made, for messages.

    Raises:
        DataError: No raw label map is there.
    """
    root = Path(root)
    raw = Path(source) if source is not None else root / "annotations"
    if source is None:
        require_folders(root, ("annotations",), title=title, tree=SOURCE_TREE)
    jobs, notes = [], []
    for partition, folder in FOLDERS.items():
        files = sorted(path for path in (raw / folder).glob("*.png") if not path.stem.endswith("TrainIds"))
        target = root / "annotations" / folder
        jobs += [Job(target / f"{path.stem}{suffix}", partial(convert, path)) for path in files]
        notes.append(count_note(partition, len(files), PUBLISHED_COUNTS[partition]))
    if not jobs:
        require_folders(
            raw, [f"{folder}/*.png" for folder in FOLDERS.values()], title=title, tree=SOURCE_TREE
        )
    report = run_jobs(jobs, f"{title} label maps")
    report.notes += notes
    return report


def to_train_ids(path: Path) -> npt.NDArray[np.uint8]:
    """Ids 0-170 ``(H, W)`` of one raw label map with 182 ids; 255 stays.

    Raises:
        DataError: The file is damaged or holds ids that no COCO-Stuff label map has.
    """
    return remap(read_label(path), train_id_table(), path)


def train_id_table() -> npt.NDArray[np.int16]:
    """Raw id to training id, for `remap`: the 171 used of 182 ids in order, 255 to itself, nothing else."""
    table = empty_table(256)
    used = [raw for raw in range(_RAW_IDS) if raw not in NEVER_LABELLED]
    table[used] = np.arange(len(used))
    return table
