"""GeoJSON in pixels: x to the right, y downwards, the photograph's top left corner at 0, 0; as QuPath and GIS tools read it."""

from typing import Any

from lexiseg.drawing.palette import Colour, class_colours
from lexiseg.inference.instances import InstanceSegmentation
from lexiseg.ops.outlines import Outline, Ring


def geojson(found: InstanceSegmentation) -> dict[str, Any]:
    """A feature for each object, its polygons with their holes along the edges of pixels, so that the area is the mask's.

    ``properties`` hold its name, class id, area in pixels and score, and its class with a colour as QuPath reads them.
    """
    names = [found.id2label[index] for index in range(len(found.id2label))]
    colours = class_colours(names)
    features = [
        {
            "type": "Feature",
            "geometry": _geometry(found.outlines(index)),
            "properties": {
                **told_class(thing.class_id, names[thing.class_id], colours[thing.class_id]),
                "area": thing.area,
                "score": thing.told_score,
            },
        }
        for index, thing in enumerate(found.things)
    ]
    return {"type": "FeatureCollection", "features": features}


def told_class(class_id: int, name: str, colour: Colour) -> dict[str, Any]:
    """What ``properties`` say of an object's class."""
    return {
        "name": name,
        "class_id": class_id,
        "objectType": "annotation",
        "classification": {"name": name, "color": list(colour)},
    }


def _geometry(pieces: list[Outline]) -> dict[str, Any]:
    polygons = [[_closed(piece.outer), *map(_closed, piece.holes)] for piece in pieces]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: Ring) -> list[list[int]]:
    points: list[list[int]] = ring.tolist()
    return [*points, points[0]]
