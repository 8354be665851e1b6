"""In which files results are kept: what ``lexiseg predict --format`` names."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lexiseg.errors import ConfigError
from lexiseg.inference.annotated import Annotated, Annotation
from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.inference.panoptic import PanopticSegmentation
from lexiseg.inference.result import Segmentation
from lexiseg.recipes.coco_folder import CocoFolder
from lexiseg.recipes.listed_folder import ListedFolder, ResultFolder
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.yolo_folder import YoloFolder

Output = Literal["semantic", "panoptic", "instances"]

FORMATS = ("png", "coco", "coco-polygons", "panoptic", "yolo", "labelme", "geojson", "probabilities")

_OWN: dict[str, str] = {"semantic": "png", "panoptic": "panoptic", "instances": "coco"}
"""What each output is kept in if nothing is said."""

_OBJECTS = ("coco", "coco-polygons", "yolo", "labelme", "geojson")


@dataclass(frozen=True)
class ResultFormats:
    """What is written of every photograph.

    Attributes:
        names: Of :data:`FORMATS`.
        pieces: Of labels of pixels, each piece that hangs together is an object.
    """

    names: tuple[str, ...] = ("png",)
    pieces: bool = False

    @classmethod
    def read(
        cls, text: str | None, *, output: Output = "semantic", pieces: bool = False, stuff: str | None = None
    ) -> "ResultFormats":
        """Formats with commas between; None: the output's own.

        Raises:
            ConfigError: One that does not exist, does not go with the output or with another one, or flags that none of
                them heeds.
        """
        given = [name.strip().lower() for name in (_OWN[output] if text is None else text).split(",")]
        names = tuple(dict.fromkeys(given))
        unknown = [name for name in names if name not in FORMATS]
        if unknown:
            raise ConfigError(f"--format: {unknown[0]!r} is none of {', '.join(FORMATS)}; put commas between")
        if {"coco", "coco-polygons"} <= set(names):
            raise ConfigError("--format coco and coco-polygons are one file, coco.json; choose one of them")
        _check_output(names, output)
        if pieces and (output != "semantic" or not set(names) & set(_OBJECTS)):
            raise ConfigError(
                f"--pieces cuts labels of pixels into objects; add --format with one of {', '.join(_OBJECTS)}, "
                "and leave --output out"
            )
        if stuff is not None and output == "semantic" and not pieces and "panoptic" not in names:
            raise ConfigError(
                "--stuff is what segments do not count; add --output panoptic or --output instances, or for labels of "
                "pixels --format panoptic or --pieces"
            )
        return cls(names, pieces)


def _check_output(names: Sequence[str], output: Output) -> None:
    of_pixels = [name for name in names if name in ("png", "probabilities")]
    if output != "semantic" and of_pixels:
        raise ConfigError(f"--format {of_pixels[0]} is of pixels; leave it out with --output {output}")
    if output == "instances" and "panoptic" in names:
        raise ConfigError("--format panoptic holds no things that overlap; take --output panoptic for it")


class ResultFiles:
    """Everything that is written of photographs but pictures of labels.

    Args:
        out: Folder of the results.
        formats: The files.
        output: What is found in the photographs.
        stuff: Names of the classes that stay whole where labels of pixels are cut into objects.
    """

    def __init__(
        self,
        out: Path,
        formats: ResultFormats,
        output: Output = "semantic",
        stuff: frozenset[str] = frozenset(),
    ) -> None:
        self._pieces, self._stuff = formats.pieces, stuff
        self.folders: dict[str, ResultFolder] = {}
        for name in formats.names:
            if name in ("coco", "coco-polygons"):
                called = "instances" if output == "instances" else "coco"
                self.folders[name] = CocoFolder(out, called, polygons=name == "coco-polygons")
            elif name == "panoptic":
                self.folders[name] = CocoFolder(out, name)
            elif name == "yolo":
                self.folders[name] = YoloFolder(out / name)
            elif name == "labelme":
                self.folders[name] = _FileFolder("labelme", out / name)
            elif name == "geojson":
                self.folders[name] = _FileFolder("geojson", out / name)

    @property
    def lists(self) -> list[Path]:
        """Files that list what was found in all photographs."""
        return [folder.path for folder in self.folders.values() if isinstance(folder, ListedFolder)]

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take photographs in here."""
        with ExitStack() as stack:
            for folder in self.folders.values():
                stack.enter_context(folder.open())
            yield

    def add(
        self, photograph: Photograph, found: Segmentation | PanopticSegmentation | InstanceSegmentation
    ) -> None:
        """Write what was found in a photograph.

        Raises:
            LexisegError: A folder cannot be written to, or more pieces than a format holds.
        """
        objects: InstanceSegmentation | None = None
        for name, folder in self.folders.items():
            if name == "panoptic":
                told = (
                    found.to_panoptic(stuff=sorted(self._stuff)) if isinstance(found, Segmentation) else found
                )
                folder.add(photograph, told)
                continue
            objects = objects or self._objects(found)
            folder.add(photograph, objects)

    def _objects(
        self, found: Segmentation | PanopticSegmentation | InstanceSegmentation
    ) -> InstanceSegmentation:
        if isinstance(found, Segmentation):
            return found.to_instances(pieces=self._pieces, stuff=sorted(self._stuff))
        return found.to_instances()


@dataclass(frozen=True)
class _FileFolder:
    """A file for each photograph."""

    kind: Annotation
    folder: Path

    def open(self) -> AbstractContextManager[None]:
        return nullcontext()

    def add(self, photograph: Photograph, found: Annotated) -> None:
        found.save_annotation(
            self.kind, self.folder, photograph.stem, photograph=_seen_from(self.folder, photograph.path)
        )


def _seen_from(folder: Path, photograph: Path) -> str:
    """A photograph's path for a file in the folder; of another drive, the whole."""
    try:
        return Path(os.path.relpath(photograph.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return photograph.absolute().as_posix()
