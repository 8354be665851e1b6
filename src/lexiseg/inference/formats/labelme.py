"""LabelMe's file of a photograph: polygons that a person can go on with."""

from typing import Any

from lexiseg.inference.instances import InstanceSegmentation

_VERSION = "5.5.0"
"""The first to read files of this form; later ones read them as well."""


def labelme_file(found: InstanceSegmentation, photograph: str) -> dict[str, Any]:
    """The file's content.

    Each connected piece is a polygon along the edges of its pixels, a cut of no width leading to each hole; pieces of one
    object share a ``group_id``. The area inside is the mask's; where LabelMe draws polygons as masks, it adds the line
    around them.

    Args:
        found: What is told.
        photograph: Its path as seen from the file, or its name.
    """
    height, width = found.size
    shapes = [
        {
            "label": found.id2label[thing.class_id],
            "points": piece.one_ring().astype(float).tolist(),
            "group_id": index + 1,
            "description": "" if thing.told_score is None else f"score {thing.score:.4f}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for index, thing in enumerate(found.things)
        for piece in found.outlines(index)
    ]
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": photograph,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
