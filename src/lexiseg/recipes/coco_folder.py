"""COCO's file of a folder of segmented photographs, complete at every moment for the photographs that it lists."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lexiseg import __version__
from lexiseg.drawing.palette import class_colours
from lexiseg.inference.annotated import Annotated
from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.recipes.listed_folder import ListedFolder
from lexiseg.recipes.photographs import Photograph
from lexiseg.storage import write_json, write_png


@dataclass
class CocoFolder(ListedFolder):
    """``panoptic.json`` with a picture of ids for each photograph in ``panoptic``; or objects in a file of another name.

    Attributes:
        out: The folder.
        kind: ``panoptic``, ``instances`` or ``coco``: the file's name.
        polygons: Masks of objects as polygons, not as run lengths.
        images: COCO's entries of photographs; ids count from 1.
        annotations: COCO's entries of what was found.
    """

    out: Path
    kind: str
    polygons: bool = False
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    _head: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.out / f"{self.kind}.json"

    @property
    def count(self) -> int:
        """Photographs so far."""
        return len(self.images)

    def add(self, photograph: Photograph, found: Annotated) -> None:
        """Write what was found in a photograph, and list it; objects one by one unless the file is ``panoptic.json``.

        Raises:
            LexisegError: The folder cannot be written to.
        """
        if self.kind != "panoptic" or not isinstance(found, PanopticSegmentation):
            found = found.to_instances()
        self._head = self._head or _head(found)
        number = len(self.images) + 1
        if isinstance(found, PanopticSegmentation):
            name = f"{photograph.stem}.png"
            write_png(found.id_image(), self.out / self.kind / name)
            entries = [{"image_id": number, "file_name": name, "segments_info": found.to_coco()}]
        else:
            first = len(self.annotations) + 1
            entries = [
                {"id": first + index, "image_id": number, **entry}
                for index, entry in enumerate(found.to_coco(polygons=self.polygons))
            ]
        height, width = found.size
        path = photograph.path
        told = path.name if photograph.stem == path.stem else f"{path.absolute().parent.name}/{path.name}"
        self.images.append({"id": number, "file_name": told, "height": height, "width": width})
        self.annotations += entries
        self.grow()

    def write_list(self) -> None:
        """Write the file, whole or not at all."""
        write_json({**self._head, "images": self.images, "annotations": self.annotations}, self.path)


def _head(found: PanopticSegmentation | InstanceSegmentation) -> dict[str, Any]:
    """Every setting, and the classes: ids are those of the vocabulary, from 0."""
    names = [found.id2label[index] for index in range(len(found.id2label))]
    known = None if found.known_words is None else list(found.known_words)
    info = {
        "description": f"lexiseg {__version__}",
        "known_words": known,
        "protocol": dict(found.protocol),
    }
    categories = [
        {"id": index, "name": name, "isthing": int(name not in found.stuff), "color": list(colour)}
        for index, (name, colour) in enumerate(zip(names, class_colours(names), strict=True))
    ]
    return {"info": info, "categories": categories}
