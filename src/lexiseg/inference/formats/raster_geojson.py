"""A label raster as GeoJSON: its connected pieces as polygons, written one after the other."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lexiseg.data.raster import open_raster, require_rasterio
from lexiseg.drawing.palette import class_colours
from lexiseg.inference.formats.geojson import told_class
from lexiseg.ops.outlines import ring_area

_WORLD = "EPSG:4326"
"""What RFC 7946 has coordinates in: longitude, then latitude, in degrees."""


def write_geojson(path: Path, labels: Path, names: Sequence[str], *, nothing: frozenset[int]) -> int:
    """Write a ``FeatureCollection``, a feature for each piece of a class that hangs together by shared edges.

    The pieces are found row by row over the whole raster, so that none ends where it was cut for labelling; memory grows with
    their number and corners, not with pixels. Coordinates are degrees of longitude and latitude (RFC 7946); of a raster that
    says no coordinate system, those of its transform, or pixels as in :mod:`.geojson`.

    Args:
        path: Is filled; call it inside :func:`lexiseg.storage.write_atomically`.
        labels: A raster of :func:`lexiseg.data.raster.write_labels`.
        names: By class id.
        nothing: Ids whose pixels are no object.

    Returns:
        How many features there are.

    Raises:
        DataError: The raster cannot be read.
    """
    colours, count = class_colours(names), 0
    with open_raster(labels) as dataset, path.open("w", encoding="utf-8") as file:
        place = _to_world(dataset.crs)
        file.write('{"type": "FeatureCollection", "features": [')
        for geometry, class_id in _pieces(dataset):
            if class_id in nothing or class_id >= len(names):
                continue
            feature = {
                "type": "Feature",
                "geometry": place(geometry),
                "properties": told_class(class_id, names[class_id], colours[class_id]),
            }
            file.write((",\n" if count else "\n") + json.dumps(feature, ensure_ascii=False))
            count += 1
        file.write("\n]}\n")
    return count


def _pieces(dataset: Any) -> Iterator[tuple[dict[str, Any], int]]:
    """Polygons and their values, in the raster's coordinates."""
    band = require_rasterio().band(dataset, 1)
    features = require_rasterio("rasterio.features")
    for geometry, value in features.shapes(band, connectivity=4, transform=dataset.transform):
        yield geometry, int(value)


def _to_world(crs: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Polygons of a coordinate system, if there is one, to polygons in degrees; outer rings counterclockwise."""
    warp = require_rasterio("rasterio.warp")

    def place(geometry: dict[str, Any]) -> dict[str, Any]:
        if crs is None:
            return geometry
        moved = warp.transform_geom(crs, _WORLD, geometry)
        rings = [_turned(ring, outer=not index) for index, ring in enumerate(moved["coordinates"])]
        return {"type": "Polygon", "coordinates": rings}

    return place


def _turned(ring: list[tuple[float, float]], *, outer: bool) -> list[tuple[float, float]]:
    """Counterclockwise if it is outer, else clockwise, as RFC 7946 has it."""
    return ring if (ring_area(np.array(ring[:-1])) > 0) == outer else ring[::-1]
