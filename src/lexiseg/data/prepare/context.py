"""PASCAL Context: the 59 frequent classes out of 459, from MATLAB masks or from the merged JSON.

Neither way needs the Detail API. Two sources carry the same class numbering (459 names in alphabetical order,
from 1):

* ``trainval_merged.json``, what mmsegmentation converts: ``images`` (``image_id``, ``file_name``, ``height``,
  ``width``, ``phase``) and ``annos_segmentation`` (``image_id``, ``category_id``, ``segmentation`` in COCO's
  compressed run lengths, later ones painted over earlier ones). Its phases give the published 4,996 + 5,104
  images.
* ``trainval/*.mat`` with a ``LabelMap`` each, from the data set's home page. They bring no lists; VOC 2010's
own
  ``ImageSets/Main`` names the partitions, which gives a few images more.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat

from lexiseg.data.datasets.context import PUBLISHED_COUNTS, TITLE
from lexiseg.data.datasets.files import first_existing, layout_error, read_name_list
from lexiseg.data.prepare.conversion import Job, Report, count_note, run_jobs
from lexiseg.errors import DataError
from lexiseg.storage import write_text

SOURCE_TREE = """
VOCdevkit/VOC2010/                    <- the root
    JPEGImages/*.jpg
    trainval_merged.json              one source: the merged annotations, or
    trainval/*.mat                    the other: one LabelMap an image, with VOC 2010's
    ImageSets/Main/train.txt, val.txt
"""
FREQUENT = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144,
    158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355,
    360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
"""The 59 classes' ids among the 459; both lists are alphabetical, so ascending is the classes' order."""

_ALL_IDS = 459

Reader = Callable[[], npt.NDArray[np.int64]]
"""Gives the ids ``(H, W)`` of one photograph among all classes."""

Conversion = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.unsignedinteger[Any]]]
"""Ids among all classes to those of a label map."""

Target = Callable[[str, str], Path]
"""Partition and name of a photograph to the file of its label map."""


def prepare_context(root: str | Path, source: str | Path | None = None) -> Report:
    """Make ``SegmentationClassContext/*.png`` and ``ImageSets/SegmentationContext/{train,val}.txt``.

    Args:
        root: ``VOCdevkit/VOC2010``.
        source: ``trainval_merged.json`` or a folder of ``.mat`` files; None: looked for under the root.

    Raises:
        DataError: Neither source is there, or the JSON is not the merged annotations.
    """
    root = Path(root)
    jobs, partitions = context_jobs(root, source, partial(_target, root), frequent_ids)
    report = run_jobs(jobs, "Context label maps")
    broken = {target.stem for target, _ in report.failed}
    for partition, names in partitions.items():
        kept = [name for name in names if name not in broken]
        path = root / "ImageSets" / "SegmentationContext" / f"{partition}.txt"
        write_text("".join(f"{name}\n" for name in kept), path)
        report.lists.append(path)
        report.notes.append(count_note(partition, len(kept), PUBLISHED_COUNTS[partition]))
    return report


def context_jobs(
    root: Path, source: str | Path | None, target: Target, convert: Conversion
) -> tuple[list[Job], dict[str, list[str]]]:
    """What to make, and the names of each partition.

    Args:
        root: ``VOCdevkit/VOC2010``.
        source: See :func:`prepare_context`.
        target: Where the label map of a partition's photograph goes.
        convert: Ids ``(H, W)`` among all classes, int64 from 1, to the label map.

    Raises:
        DataError: See :func:`prepare_context`.
    """
    found = Path(source) if source is not None else first_existing(root, ("trainval_merged.json", "trainval"))
    if found is None or not found.exists():
        raise layout_error(
            root,
            f"missing: {found or 'trainval_merged.json or trainval/'}",
            title=TITLE,
            tree=SOURCE_TREE,
            hint="or give --source FILE_OR_FOLDER",
        )
    read, partitions = _from_mat(root, found) if found.is_dir() else _from_json(found)
    jobs = [
        Job(target(partition, name), partial(_converted, read[name], convert))
        for partition, names in partitions.items()
        for name in names
    ]
    return jobs, partitions


def frequent_ids(raw: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """459-class ids ``(H, W)`` to 1-59; every other class, and 0, becomes 0.

    Raises:
        DataError: Ids above 459.
    """
    check_ids(raw)
    table = np.zeros(_ALL_IDS + 1, dtype=np.uint8)
    table[list(FREQUENT)] = np.arange(1, len(FREQUENT) + 1)
    return table[raw]


def check_ids(raw: npt.NDArray[np.integer]) -> None:
    """Stop at ids that are none of the 459, nor 0.

    Raises:
        DataError: There are such ids.
    """
    if raw.min() < 0 or raw.max() > _ALL_IDS:
        raise DataError(f"ids from {raw.min()} to {raw.max()}; expected 0 to {_ALL_IDS} of PASCAL Context")


def decode_runs(counts: str, height: int, width: int) -> npt.NDArray[np.bool_]:
    """COCO's compressed run-length code to a mask.

    Runs alternate between 0 and 1, starting with 0, down the columns. Each run length is written in groups of
    five bits, low group first, as characters from code 48 on; bit 6 says that more groups follow, the highest
    bit of the last group is the sign. From the fourth run on the difference to the run two before is what is
    written.

    Returns:
        ``(height, width)`` bool.

    Raises:
        DataError: The runs do not fill the mask exactly.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        raise DataError(
            f"run lengths cover {sum(runs)} pixels of {height}x{width}; the annotation is damaged"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _from_mat(root: Path, folder: Path) -> tuple[dict[str, Reader], dict[str, list[str]]]:
    available = {path.stem for path in folder.glob("*.mat")}
    partitions = {}
    for partition in ("train", "val"):
        path = root / "ImageSets" / "Main" / f"{partition}.txt"
        if not path.exists():
            raise layout_error(root, f"missing: {path.relative_to(root)}", title=TITLE, tree=SOURCE_TREE)
        partitions[partition] = [name for name in read_name_list(path) if name in available]
    return {name: partial(_read_mat, folder / f"{name}.mat") for name in available}, partitions


def _from_json(path: Path) -> tuple[dict[str, Reader], dict[str, list[str]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images, annotations = content["images"], content["annos_segmentation"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not trainval_merged.json of PASCAL Context ({type(error).__name__}: {error}); "
            "expected a JSON object with 'images' and 'annos_segmentation'"
        ) from error
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        by_image[annotation["image_id"]].append(annotation)
    partitions: dict[str, list[str]] = {"train": [], "val": []}
    read: dict[str, Reader] = {}
    for image in images:
        if image.get("phase") not in partitions:
            continue
        name = Path(image["file_name"]).stem
        partitions[image["phase"]].append(name)
        read[name] = partial(_paint, image, by_image[image["image_id"]])
    return read, partitions


def _converted(read: Reader, convert: Conversion) -> npt.NDArray[np.unsignedinteger[Any]]:
    return convert(read())


def _target(root: Path, partition: str, name: str) -> Path:
    return root / "SegmentationClassContext" / f"{name}.png"


def _read_mat(path: Path) -> npt.NDArray[np.int64]:
    content = loadmat(path)
    if "LabelMap" not in content:
        raise DataError(f"{path} has no 'LabelMap'; expected a file of PASCAL Context's trainval folder")
    return np.asarray(content["LabelMap"]).astype(np.int64)


def _paint(image: dict[str, Any], annotations: list[dict[str, Any]]) -> npt.NDArray[np.int64]:
    raw = np.zeros((image["height"], image["width"]), dtype=np.int64)
    for annotation in annotations:
        raw[decode_runs(annotation["segmentation"]["counts"], *raw.shape)] = annotation["category_id"]
    return raw
