"""COCO-Object: COCO-Stuff's label maps with 182 ids become ``*_instanceTrainIds.png`` with 80 things."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.data.datasets.coco_object import MASK_SUFFIX, THINGS, TITLE
from lexiseg.data.io import read_label
from lexiseg.data.prepare.coco_stuff import convert_raw_maps, train_id_table
from lexiseg.data.prepare.conversion import Report, remap


def prepare_coco_object(root: str | Path, source: str | Path | None = None) -> Report:
    """Make ``annotations/{train,val}2017/*_instanceTrainIds.png``.

    Args:
        root: ``coco_stuff164k``.
        source: Folder that holds ``train2017`` and ``val2017`` with the raw label maps; None:
            ``annotations``.

    Raises:
        DataError: No raw label map is there.
    """
    return convert_raw_maps(root, source, suffix=MASK_SUFFIX, convert=to_object_ids, title=TITLE)


def to_object_ids(path: Path) -> npt.NDArray[np.uint8]:
    """Ids ``(H, W)`` of one raw label map with 182 ids: things become 1-80, everything else 0.

    Unlabelled pixels, raw 255, become background as well. The conversion that GroupViT, TCL, SCLIP and their
    followers share sets each raw id above 90 to 0, and 255 is one of them: published COCO-Object scores ignore
    nothing.

    Raises:
        DataError: The file is damaged or holds ids that no COCO-Stuff label map has; the published conversion
            lets those pass unchanged.
    """
    table = train_id_table()
    allowed = table >= 0
    table[allowed] = np.where(table[allowed] < THINGS, table[allowed] + 1, 0)
    return remap(read_label(path), table, path)
