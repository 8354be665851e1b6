"""COCO captions: photographs and what people said of them, for models that learn from sentences instead of labels."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lexiseg.data.datasets.coco_panoptic import FOLDERS, read_annotations
from lexiseg.data.datasets.files import layout_error, require_folders
from lexiseg.data.io import read_image
from lexiseg.errors import DataError

TITLE = "COCO captions"
TREE = """
coco/                                            <- the root
    train2017/*.jpg, val2017/*.jpg
    annotations/captions_train2017.json          images, annotations (image_id, caption)
    annotations/captions_val2017.json
"""


@dataclass(frozen=True, eq=False)
class CaptionedImage:
    """A photograph and its sentences.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        captions: In the order of their ids, blanks around them taken off; at least one.
        name: Unique within the data set.
    """

    image: npt.NDArray[np.uint8]
    captions: tuple[str, ...]
    name: str


class CocoCaptions:
    """COCO's captions, five or so of a photograph; nothing is labelled.

    Args:
        root: The folder ``coco``.
        partition: ``train`` or ``val``.

    Attributes:
        images: Paths of the photographs that have a caption, by name.
        captions: The captions of each.

    Raises:
        DataError: The layout is not there, or the JSON holds something else.
    """

    def __init__(self, *, root: str | Path, partition: Literal["train", "val"] = "train") -> None:
        root, folder = Path(root), FOLDERS[partition]
        source = root / "annotations" / f"captions_{folder}.json"
        require_folders(root, (folder, f"annotations/{source.name}"), title=TITLE, tree=TREE)
        kept = read_captions(source)
        missing = sorted(kept.keys() - {path.name for path in (root / folder).iterdir()})
        if missing or not kept:
            problem = (
                f"{len(missing)} images missing: {missing[0]} and so on"
                if missing
                else f"no caption in {source.name}"
            )
            raise layout_error(root, problem, title=TITLE, tree=TREE)
        self.images = tuple(root / folder / name for name in kept)
        self.captions = tuple(kept.values())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> CaptionedImage:
        """Read one photograph.

        Raises:
            DataError: It is damaged.
        """
        path = self.images[index]
        return CaptionedImage(read_image(path), self.captions[index], path.stem)

    def __iter__(self) -> Iterator[CaptionedImage]:
        return (self[index] for index in range(len(self)))


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """What was said of each photograph, by its file's name; in the order of the names, captions in that of their ids.

    Args:
        path: JSON of COCO's layout: images with id and file_name, annotations with id, image_id and caption. A photograph
            without a caption is left out.

    Raises:
        DataError: The file is missing, or holds something else.
    """
    content = read_annotations(path, ("images", "annotations"))
    said: dict[int, list[str]] = defaultdict(list)
    try:
        for each in sorted(content["annotations"], key=_id):
            said[int(each["image_id"])].append(str(each["caption"]).strip())
        photos = sorted((str(each["file_name"]), _id(each)) for each in content["images"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} holds no captions ({type(error).__name__}: {error}); expected images with id and file_name, "
            "annotations with id, image_id and caption"
        ) from error
    return {
        name: captions for name, index in photos if (captions := tuple(text for text in said[index] if text))
    }


def _id(each: Any) -> int:
    return int(each["id"])
