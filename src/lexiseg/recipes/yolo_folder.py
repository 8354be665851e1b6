"""A data set for YOLO: ``images``, ``labels``, the list of this run's photographs, and ``data.yaml`` that names the classes."""

import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lexiseg.inference.annotated import Annotated
from lexiseg.inference.formats.yolo import yolo_dataset
from lexiseg.recipes.listed_folder import ListedFolder
from lexiseg.recipes.photographs import Photograph
from lexiseg.storage import write_atomically, write_text


@dataclass
class YoloFolder(ListedFolder):
    """Photographs are copied, since YOLO looks for the labels of ``images/STEM.jpg`` at ``labels/STEM.txt``.

    Attributes:
        folder: Of the data set.
        images: Names of the copies.
    """

    folder: Path
    images: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The list that ``data.yaml`` names."""
        return self.folder / "images.txt"

    @property
    def count(self) -> int:
        """Photographs so far."""
        return len(self.images)

    def add(self, photograph: Photograph, found: Annotated) -> None:
        """Copy a photograph, write its labels, and list it.

        Raises:
            LexisegError: The folder cannot be written to.
        """
        instances = found.to_instances()
        if not self.images:
            write_text(yolo_dataset(instances.id2label, self.path.name), self.folder / "data.yaml")
        stem = "_".join(photograph.stem.splitlines())  # a line of the list is a name
        name = f"{stem}{photograph.path.suffix.lower()}"
        write_atomically(self.folder / "images" / name, partial(shutil.copyfile, photograph.path))
        instances.save_annotation("yolo", self.folder / "labels", stem, photograph=name)
        self.images.append(name)
        self.grow()

    def write_list(self) -> None:
        """A line for each photograph, as seen from the list."""
        write_text("".join(f"./images/{name}\n" for name in self.images), self.path)
