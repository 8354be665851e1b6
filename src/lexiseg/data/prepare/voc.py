"""PASCAL VOC: the SBD data set's MATLAB masks become ``SegmentationClassAug`` and a list of their names."""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from lexiseg.data.datasets.files import read_name_list, require_folders
from lexiseg.data.datasets.voc import PUBLISHED_COUNTS, TITLE, TREE
from lexiseg.data.prepare.conversion import Job, Report, count_note, empty_table, remap, run_jobs
from lexiseg.errors import DataError
from lexiseg.storage import write_text

SBD_TREE = """
VOCdevkit/VOCaug/dataset/             <- the source (folder "dataset" of SBD's benchmark.tgz)
    cls/*.mat
    train.txt, val.txt
"""
_CLASSES = 20


def prepare_voc(root: str | Path, source: str | Path | None = None) -> Report:
    """Make ``SegmentationClassAug/*.png`` and ``ImageSets/Segmentation/aug.txt``.

    ``aug.txt`` lists SBD's train and val names without those of VOC's own train and val, which leaves 9,118;
    with VOC's train set they are the published 10,582.

    Args:
        root: ``VOCdevkit/VOC2012``.
        source: SBD's ``dataset`` folder; None: ``../VOCaug/dataset`` beside the root.

    Raises:
        DataError: VOC or SBD does not lie as expected.
    """
    root = Path(root)
    sbd = Path(source) if source is not None else root.parent / "VOCaug" / "dataset"
    lists = root / "ImageSets" / "Segmentation"
    needed = (
        "JPEGImages",
        "SegmentationClass",
        "ImageSets/Segmentation/train.txt",
        "ImageSets/Segmentation/val.txt",
    )
    require_folders(root, needed, title=TITLE, tree=TREE)
    require_folders(
        sbd, ("cls", "train.txt", "val.txt"), title="SBD", tree=SBD_TREE, hint="or give --source FOLDER"
    )
    own = {name for part in ("train", "val") for name in read_name_list(lists / f"{part}.txt")}
    names = {name for part in ("train", "val") for name in read_name_list(sbd / f"{part}.txt")}
    added = sorted(names - own)
    jobs = [
        Job(root / "SegmentationClassAug" / f"{name}.png", partial(read_sbd, sbd / "cls" / f"{name}.mat"))
        for name in added
    ]
    report = run_jobs(jobs, "SBD masks")
    broken = {target.stem for target, _ in report.failed}
    kept = [name for name in added if name not in broken]
    write_text("".join(f"{name}\n" for name in kept), lists / "aug.txt")
    report.lists.append(lists / "aug.txt")
    train = len(read_name_list(lists / "train.txt"))
    report.notes.append(count_note("trainaug", train + len(kept), PUBLISHED_COUNTS["trainaug"]))
    return report


def read_sbd(path: Path) -> npt.NDArray[np.uint8]:
    """Class ids ``(H, W)`` of one SBD file: 0 background, 1-20 classes.

    Raises:
        DataError: The file is not an SBD class mask.
    """
    content = loadmat(path, squeeze_me=True, struct_as_record=False)
    if "GTcls" not in content:
        raise DataError(f"{path} has no 'GTcls'; expected a file of SBD's folder cls")
    raw = np.atleast_2d(np.asarray(content["GTcls"].Segmentation)).astype(np.int64)
    table = empty_table(256)
    table[: _CLASSES + 1] = np.arange(_CLASSES + 1)
    return remap(raw, table, path)
