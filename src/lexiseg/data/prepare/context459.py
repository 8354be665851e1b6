"""PASCAL Context with all its classes: 16-bit label maps from the sources that the 59 frequent ones come from."""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.data.datasets.context459 import CLASS_FILE, PUBLISHED_COUNTS, label_folder
from lexiseg.data.prepare.context import check_ids, context_jobs
from lexiseg.data.prepare.conversion import Report, count_note, run_jobs
from lexiseg.label_codes import SIXTEEN_BIT


def prepare_context459(root: str | Path, source: str | Path | None = None) -> Report:
    """Make ``annotations_detectron2/pc459_{train,val}/*.tif``.

    Args:
        root: ``VOCdevkit/VOC2010``.
        source: As for the 59 classes: ``trainval_merged.json`` or a folder of ``.mat`` files; None: looked for under the
            root.

    Raises:
        DataError: Neither source is there, or the JSON is not the merged annotations.
    """
    root = Path(root)
    jobs, partitions = context_jobs(root, source, partial(_target, root), shifted_ids)
    report = run_jobs(jobs, "Context-459 label maps")
    broken = {target.stem for target, _ in report.failed}
    for partition, names in partitions.items():
        made = sum(name not in broken for name in names)
        report.notes.append(count_note(partition, made, PUBLISHED_COUNTS[partition]))
    if not (root / CLASS_FILE).exists():
        report.notes.append(f"still needed: {root / CLASS_FILE}, the 459 names from the data set's home page")
    return report


def shifted_ids(raw: npt.NDArray[np.integer]) -> npt.NDArray[np.uint16]:
    """Ids 1-459 ``(H, W)`` to 0-458, and 0, which is no class, to 65535.

    Raises:
        DataError: Ids above 459.
    """
    check_ids(raw)
    return np.where(raw > 0, raw - 1, SIXTEEN_BIT.ignore).astype(np.uint16)


def _target(root: Path, partition: str, name: str) -> Path:
    return root / label_folder(partition) / f"{name}.tif"
