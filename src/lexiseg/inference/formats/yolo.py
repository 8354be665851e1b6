"""Text files that YOLO trains segmentation on: a line for each polygon, its class and then x y in shares of the sides."""

from collections.abc import Mapping

import yaml

from lexiseg.inference.instances import InstanceSegmentation


def yolo_lines(found: InstanceSegmentation) -> str:
    """A photograph's file; empty where nothing was found, which YOLO reads as a photograph of none of the classes.

    A line is one connected piece along the edges of its pixels, a cut of no width leading to each hole, for the format knows no
    holes. So the area inside is the mask's.
    """
    height, width = found.size
    lines = []
    for index, thing in enumerate(found.things):
        for piece in found.outlines(index):
            corners = (f"{x / width:.9g} {y / height:.9g}" for x, y in piece.one_ring().tolist())
            lines.append(f"{thing.class_id} {' '.join(corners)}\n")
    return "".join(lines)


def yolo_dataset(id2label: Mapping[int, str], photographs: str) -> str:
    """The data set's ``data.yaml``: names of any kind, quoted where YAML needs it.

    Args:
        id2label: The classes.
        photographs: The file beside it that lists the photographs; all are to train and to validate on.
    """
    told = {"train": photographs, "val": photographs, "names": dict(id2label)}
    return str(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
