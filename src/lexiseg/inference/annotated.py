"""What every kind of result can be told as: the formats of labelling tools, all by way of objects one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lexiseg.lazy import locate
from lexiseg.storage import json_text, write_text

if TYPE_CHECKING:
    from supervision import Detections

    from lexiseg.inference.instances import InstanceSegmentation

Annotation = Literal["labelme", "yolo", "geojson"]
"""Formats of one file for each photograph."""

_ENDINGS: Mapping[Annotation, str] = {"labelme": ".json", "yolo": ".txt", "geojson": ".geojson"}

_FORMATS = "lexiseg.inference.formats"
"""Loaded when one is asked for: they build on the results that build on this."""


class Annotated:
    """A result that consists of objects."""

    def to_instances(self) -> "InstanceSegmentation":
        """Its objects one by one."""
        raise NotImplementedError

    def to_labelme(self, photograph: str) -> dict[str, Any]:
        """LabelMe's file; ``photograph`` is the path of the picture as seen from it. See :mod:`.formats.labelme`."""
        made: dict[str, Any] = locate(f"{_FORMATS}.labelme:labelme_file")(self.to_instances(), photograph)
        return made

    def to_yolo(self) -> str:
        """YOLO's text file for segmentation, a line for each connected piece. See :mod:`.formats.yolo`."""
        return str(locate(f"{_FORMATS}.yolo:yolo_lines")(self.to_instances()))

    def to_geojson(self) -> dict[str, Any]:
        """A GeoJSON ``FeatureCollection`` in pixels. See :mod:`.formats.geojson`."""
        made: dict[str, Any] = locate(f"{_FORMATS}.geojson:geojson")(self.to_instances())
        return made

    def to_supervision(self) -> "Detections":
        """``supervision.Detections``; many masks as a ``CompactMask``.

        Raises:
            ConfigError: supervision is not installed.
        """
        made: Detections = locate(f"{_FORMATS}.supervision:detections")(self.to_instances())
        return made

    def save_annotation(self, kind: Annotation, folder: Path | str, stem: str, *, photograph: str) -> Path:
        """Write one file for a labelling tool, whole or not at all.

        Args:
            kind: The tool.
            folder: Is made if need be.
            stem: The file's name without its ending.
            photograph: Path of the picture as seen from the folder, for LabelMe.

        Raises:
            LexisegError: The folder cannot be written to.
        """
        path = Path(folder) / f"{stem}{_ENDINGS[kind]}"
        if kind == "yolo":
            text = self.to_yolo()
        else:
            text = json_text(self.to_geojson() if kind == "geojson" else self.to_labelme(photograph))
        write_text(text, path)
        return path
