"""COCO panoptic: every thing and every kind of stuff of COCO 2017's photographs, 133 classes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lexiseg.data.class_files import Words
from lexiseg.data.datasets.files import LabelledFiles, Pair, layout_error, require_files, require_folders
from lexiseg.data.io import read_image
from lexiseg.data.schema import plain_schema
from lexiseg.errors import DataError
from lexiseg.label_codes import LabelMap
from lexiseg.segments import NO_SEGMENT, Segments
from lexiseg.types import Sample

TITLE = "COCO panoptic"
TREE = """
coco/                                            <- the root
    train2017/*.jpg, val2017/*.jpg
    panoptic_train2017/*.png                     red + 256 green + 65536 blue = id of a segment, 0 = none
    panoptic_val2017/*.png
    annotations/panoptic_train2017.json          images, annotations (segments_info), categories
    annotations/panoptic_val2017.json
"""
HINT = "the archives of PNGs lie inside the one of annotations; unpack them beside train2017"
FOLDERS = {"train": "train2017", "val": "val2017"}
PUBLISHED_COUNTS = {"train": 118287, "val": 5000}

_FACTS = 3
"""Of a segment: its id, its class, and whether it is a crowd."""


class CocoPanoptic(LabelledFiles):
    """COCO panoptic in detectron2's layout; its classes are the categories of its JSON by ascending id.

    A sample has its segments besides its label map. A crowd gives its pixels their class, as published semantic label
    maps of this set do, and is no target of training (`Segments.targets`).

    Args:
        root: The folder ``coco``.
        partition: ``train`` or ``val``.
        segments: Whether samples have their segments; without, training sees label maps alone.

    Raises:
        DataError: The layout is not there, files are missing, or the JSON holds something else.
    """

    def __init__(
        self, *, root: str | Path, partition: Literal["train", "val"] = "train", segments: bool = True
    ) -> None:
        root, folder = Path(root), FOLDERS[partition]
        source = root / "annotations" / f"panoptic_{folder}.json"
        needed = (folder, f"panoptic_{folder}", f"annotations/{source.name}")
        require_folders(root, needed, title=TITLE, tree=TREE, hint=HINT)
        content = read_annotations(source, ("images", "annotations", "categories"))
        try:
            categories = sorted(content["categories"], key=lambda each: int(each["id"]))
            words: Words = tuple((" ".join(str(each["name"]).split()),) for each in categories)
            self._things = np.array([bool(each["isthing"]) for each in categories])
            classes = {int(each["id"]): index for index, each in enumerate(categories)}
            photos = {int(each["id"]): str(each["file_name"]) for each in content["images"]}
            annotations = sorted(content["annotations"], key=lambda each: photos[int(each["image_id"])])
            names = [(photos[int(each["image_id"])], str(each["file_name"])) for each in annotations]
            self._facts, self._starts = _compact(annotations, classes)
        except (KeyError, TypeError, ValueError) as error:
            raise _not_panoptic(source, error) from error
        if not names:
            raise layout_error(root, f"no image in {source.name}", title=TITLE, tree=TREE, hint=HINT)
        pairs = [
            Pair(root / folder / image, root / f"panoptic_{folder}" / mask, Path(image).stem)
            for image, mask in names
        ]
        require_files(pairs, root=root, title=TITLE, tree=TREE, hint=HINT)
        super().__init__(pairs=pairs, words=words, schema=plain_schema(len(words)))
        self.stuff = tuple(name for name, thing in zip(self.classes, self._things, strict=True) if not thing)
        self._segments = segments
        self._every_class: LabelMap = np.arange(self.schema.codes.size, dtype=np.int64).astype(
            self.schema.codes.dtype
        )

    def __getitem__(self, index: int) -> Sample:
        """Read one sample with its segments.

        Raises:
            DataError: As `read_label`, or the photograph is damaged.
        """
        pair, segments = self.pairs[index], self.read_segments(index)
        label = self.require_size(index, segments.label(self._every_class))
        return Sample(read_image(pair.image), label, pair.name, segments if self._segments else None)

    def read_label(self, index: int) -> LabelMap:
        """Class ids ``(H, W)`` of one photograph.

        Raises:
            DataError: The PNG is damaged, of another size than the photograph, or holds a segment that the JSON lacks.
        """
        return self.require_size(index, self.read_segments(index).label(self._every_class))

    def read_segments(self, index: int) -> Segments:
        """Things and stuff of one photograph, in the order of the JSON.

        Raises:
            DataError: The PNG is damaged or holds a segment that the JSON lacks.
        """
        path = self.pairs[index].mask
        red, green, blue = np.moveaxis(read_image(path).astype(np.int64), -1, 0)
        ids = red + 256 * green + 65536 * blue
        known, classes, crowds = self._facts[self._starts[index] : self._starts[index + 1]].T
        order = np.argsort(known)
        place = np.searchsorted(known, ids, sorter=order).clip(max=max(len(known) - 1, 0))
        found = order[place] if len(known) else np.zeros_like(ids)
        listed = known[found] == ids if len(known) else np.zeros(ids.shape, dtype=bool)
        strange = np.unique(ids[~listed & (ids != 0)])
        if len(strange):
            raise DataError(
                f"{path} shows the segments {strange[:5].tolist()}, which its JSON does not list; take the JSON and the PNGs "
                "of one release"
            )
        indices = np.where(listed & (ids != 0), found, NO_SEGMENT).astype(np.uint16)
        return Segments(indices, classes, self._things[classes], crowds.astype(bool))


def read_annotations(path: Path, keys: Sequence[str]) -> Mapping[str, Any]:
    """The object of a COCO JSON.

    Raises:
        DataError: It cannot be read, is no JSON object, or lacks one of the keys.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if not isinstance(content[key], list)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unexpected(path, keys, error) from error
    if missing:
        raise _unexpected(path, keys, TypeError(f"{missing[0]} is no list"))
    found: Mapping[str, Any] = content
    return found


def _unexpected(path: Path, keys: Sequence[str], error: Exception) -> DataError:
    return DataError(
        f"{path} is not what was expected ({type(error).__name__}: {error}); expected a JSON object with {', '.join(keys)}"
    )


def _not_panoptic(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} holds no panoptic annotations ({type(error).__name__}: {error}); expected categories with id, name and "
        "isthing, images with id and file_name, annotations with image_id, file_name and segments_info"
    )


def _compact(
    annotations: Sequence[Mapping[str, Any]], classes: Mapping[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Segments of all images one after the other ``(S, 3)``, and where those of each image start ``(N + 1,)``.

    Numbers in one array, for loader processes copy lists of a million small objects as they count references.
    """
    facts, starts = [], [0]
    for annotation in annotations:
        facts += [
            (int(each["id"]), classes[int(each["category_id"])], int(each.get("iscrowd", 0)))
            for each in annotation["segments_info"]
        ]
        starts.append(len(facts))
    return np.array(facts, dtype=np.int64).reshape(-1, _FACTS), np.array(starts)
