"""Label Studio's results: brush masks in its run lengths, or polygons in percent of the sides."""

from typing import Any, Literal

from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.ops.brush_run_length import encode_brush

Shape = Literal["brushlabels", "polygonlabels"]

_PERCENT = 100.0


def label_studio_results(
    found: InstanceSegmentation, shape: Shape, *, from_name: str, to_name: str
) -> list[dict[str, Any]]:
    """Regions of a prediction.

    Args:
        found: What is told: a brush for each object, or a polygon along the edges of pixels for each connected piece, a cut of
            no width leading to each hole.
        shape: Of the control tag.
        from_name: The control tag's name in the labeling configuration.
        to_name: The image's name there.
    """
    height, width = found.size
    results = []
    for index, thing in enumerate(found.things):
        if shape == "brushlabels":
            values: list[dict[str, Any]] = [{"format": "rle", "rle": encode_brush(found.mask(index))}]
        else:
            values = [
                {
                    "points": (piece.one_ring() * [_PERCENT / width, _PERCENT / height]).tolist(),
                    "closed": True,
                }
                for piece in found.outlines(index)
            ]
        for part, value in enumerate(values):
            region: dict[str, Any] = {
                "id": f"{index}_{part}",
                "type": shape,
                "from_name": from_name,
                "to_name": to_name,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {**value, shape: [found.id2label[thing.class_id]]},
            }
            if thing.told_score is not None:
                region["score"] = thing.score
            results.append(region)
    return results
