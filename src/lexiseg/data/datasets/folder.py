"""Anyone's own data: a folder of images, a folder of label maps and a class file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lexiseg.data.class_files import parse_classes, read_class_file
from lexiseg.data.datasets.files import LabelledFiles, pair_folders, require_folders
from lexiseg.data.schema import Background, LabelSchema, usual_ignore_ids
from lexiseg.label_codes import SIXTEEN_BIT

TITLE = "the folder data set"
TREE = """
FOLDER/
    images/train/NAME.jpg (or png, webp, tif ...)     images/val/
    masks/train/NAME.png  one id a pixel              masks/val/
    classes.txt           one class a line, the first is id 0; synonyms: cat; kitten
"""


class FolderDataset(LabelledFiles):
    """Images, label maps and a class file; nothing to code.

    Args:
        images: Folder of images.
        masks: Folder of label maps; ``images/a.jpg`` belongs to ``masks/a`` + ``mask_suffix``.
        classes: A class file (one class a line, ``name; synonym``), or the same lines as a list.
        mask_suffix: What follows the image's stem in the label map's file name.
        id_map: Raw id to class id; None: counted from 0 in class order, skipping an ignored background. Masks
            coded 0/255 take ``{0: 0, 255: 1}`` with ``ignore_ids=[]``.
        ignore_ids: Raw ids that take no part; None: 255, or 65535 where a class has the raw id 255.
        background: What ``background_id`` means; see `LabelSchema`.
        background_id: Raw id of the background, if there is one.

    Raises:
        DataError: Folders, label maps or classes are missing or empty.
        ConfigError: The id map contradicts the classes.
    """

    def __init__(
        self,
        *,
        images: str | Path,
        masks: str | Path,
        classes: str | Path | Sequence[str],
        mask_suffix: str = ".png",
        id_map: Mapping[int, int] | None = None,
        ignore_ids: Sequence[int] | None = None,
        background: Background = "ignore",
        background_id: int | None = None,
    ) -> None:
        given = isinstance(classes, str | Path)
        words = read_class_file(classes) if given else parse_classes(classes, "classes")  # type: ignore[arg-type]
        images, masks = Path(images), Path(masks)
        for folder in (images, masks):
            require_folders(folder, (), title=TITLE, tree=TREE)
        pairs = pair_folders(images, masks, mask_suffix=mask_suffix, title=TITLE, tree=TREE)
        if id_map is None:
            codes = (raw for raw in range(SIXTEEN_BIT.size) if background != "ignore" or raw != background_id)
            id_map = dict(zip(codes, range(len(words)), strict=False))
        id_map = {int(k): int(v) for k, v in id_map.items()}
        schema = LabelSchema(
            len(words),
            id_map,
            usual_ignore_ids(max(id_map, default=0)) if ignore_ids is None else tuple(ignore_ids),
            background,
            background_id,
        )
        super().__init__(pairs=pairs, words=words, schema=schema)
