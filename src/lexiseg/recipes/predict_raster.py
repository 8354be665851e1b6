"""TIFF files of any size at their own scale: read, labelled and written tile by tile, their place on earth kept."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lexiseg.data.raster import (
    BLOCK,
    RASTER_SUFFIXES,
    Raster,
    Tile,
    open_raster,
    require_rasterio,
    write_labels,
)
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.formats.raster_geojson import write_geojson
from lexiseg.inference.pictures import NO_CLASS
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.result import Segmentation, told_areas
from lexiseg.inference.segmenter import Segmenter
from lexiseg.label_codes import LabelMap, label_codes
from lexiseg.ops.sliding_window import window_grid
from lexiseg.ops.window_tiles import WindowTile, window_tiles
from lexiseg.progress import doing
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.predict import Prediction
from lexiseg.recipes.predict_segments import SegmentPrediction
from lexiseg.storage import is_same_file, write_atomically

NATIVE = "native"
"""The scale that leaves photographs as large as they are."""

TILE = 4 * BLOCK
"""Side of a tile in pixels, whole blocks, so that none is written twice. Neighbours read the windows over a border again, a
fifth of all at 224 by 112."""

_FORMATS = {"png", "geojson"}


def at_scale(pipeline: Pipeline, scale: str | None) -> Pipeline:
    """A pipeline whose windows lie on photographs as large as they are, if that is the scale; None leaves it."""
    if scale is None:
        return pipeline
    return replace(pipeline, protocol=replace(pipeline.protocol, short_side=None))


def by_tiles(
    prediction: Prediction | SegmentPrediction, photos: Sequence[Path], scale: str | None
) -> "Prediction | SegmentPrediction | TilePrediction":
    """The prediction, and at native scale tile by tile what a TIFF file holds.

    Raises:
        ConfigError: Something is asked for that needs a whole picture, or the extra ``geo`` is not installed.
    """
    if scale is None or not any(map(_is_raster, photos)):
        return prediction
    if isinstance(prediction, SegmentPrediction):
        raise ConfigError(
            "TIFF files at --scale native are read tile by tile, which gives labels of pixels; leave --output out"
        )
    others = sorted(set(prediction.formats.names) - _FORMATS)
    asked = {"--masks": prediction.masks is not None, "--scores": prediction.score_png}
    asked |= {f"--format {name}": True for name in others}
    given = [flag for flag, value in asked.items() if value]
    if given:
        raise ConfigError(
            f"TIFF files at --scale native become a label raster and, with --format geojson, polygons; leave {given[0]} out"
        )
    prediction.segmenter.require_pieces()
    require_rasterio()
    return TilePrediction(prediction)


@dataclass(frozen=True)
class RasterLabels:
    """What became of a raster.

    Attributes:
        path: The label raster.
        areas: Share of the labelled pixels of each class that occurs, by name, the largest first.
    """

    path: Path
    areas: dict[str, float]

    def describe(self) -> str:
        """As :meth:`Segmentation.describe`."""
        return told_areas(self.areas)


@dataclass(frozen=True)
class TilePrediction:
    """How photographs are segmented if some are rasters.

    Attributes:
        pictures: For those that are none.
    """

    pictures: Prediction

    def keep(self, photograph: Photograph) -> Segmentation | RasterLabels:
        """Segment one photograph and write its results: ``STEM_labels.tif`` of a raster, ``geojson/STEM.geojson`` if asked.

        Raises:
            DataError: It cannot be read, or is no photograph.
            LexisegError: The results cannot be written, or would take the place of the photograph.
        """
        if not _is_raster(photograph.path):
            return self.pictures.keep(photograph)
        out, segmenter = self.pictures.out, self.pictures.segmenter
        path = out / f"{photograph.stem}_labels.tif"
        if is_same_file(path, photograph.path):
            raise LexisegError(
                f"the labels of {photograph.path} would take its own place; choose another --out"
            )
        names = class_names(segmenter)
        with open_raster(photograph.path) as dataset:
            counts = write_label_raster(segmenter, Raster(photograph.path, dataset), path, names)
        if "geojson" in self.pictures.formats.names:
            nothing = {index for index, name in enumerate(names) if name == NO_CLASS}
            nothing |= {0} if segmenter.protocol.background == "class" else set()
            write = partial(write_geojson, labels=path, names=names, nothing=frozenset(nothing))
            with doing("drawing polygons"):
                write_atomically(out / "geojson" / f"{photograph.stem}.geojson", write)
        self.pictures.written.append(photograph.path)
        return RasterLabels(path, _areas(counts, names))

    def keeping(self, total: int) -> AbstractContextManager[None]:
        """What is kept of so many photographs if the work is stopped in here."""
        return self.pictures.keeping(total)


def write_label_raster(
    segmenter: Segmenter, raster: Raster, path: Path, names: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Label a raster tile by tile into a GeoTIFF that appears whole or not at all; the pixels of each class.

    The labels are those of :meth:`Segmenter.segment`, for every pixel's windows are read as there.

    Args:
        segmenter: Of a protocol without a size of its own.
        raster: Open.
        path: The label raster.
        names: By class id.

    Raises:
        ConfigError: See :meth:`Segmenter.require_pieces`.
        DataError: The raster cannot be read.
        LexisegError: The file cannot be written.
    """
    segmenter.require_pieces()
    counts: list[npt.NDArray[np.int64]] = []
    tags = {"LEXISEG_PROTOCOL": json.dumps(segmenter.protocol.to_dict())}

    def write(part: Path) -> None:
        tiles = _labelled(segmenter, raster, len(names))
        counts.append(write_labels(part, raster, names, tiles, tags))

    write_atomically(path, write)
    return counts[0]


def class_names(segmenter: Segmenter) -> list[str]:
    """By id in the label maps of a segmenter, the one of no class included."""
    return [*segmenter.vocabulary.id2label.values(), *([NO_CLASS] if segmenter.protocol.rejects else [])]


def _labelled(segmenter: Segmenter, raster: Raster, ids: int) -> Iterator[Tile]:
    """Tiles with their labels, and with the code of no label where the raster has no picture."""
    protocol, codes = segmenter.protocol, label_codes(ids)
    grid = window_grid(raster.size, protocol.window, protocol.stride)
    tiles = list(window_tiles(raster.size, grid, TILE))
    with doing("labelling tiles", len(tiles)) as work:
        for tile in tiles:
            empty = raster.is_empty(tile.rows, tile.columns)
            labels: LabelMap = np.full(empty.shape, codes.ignore, dtype=codes.dtype)
            if not empty.all():
                labels[~empty] = _labels(segmenter, raster, tile)[~empty]
            yield tile.rows, tile.columns, labels
            work.advance()


def _labels(segmenter: Segmenter, raster: Raster, tile: WindowTile) -> npt.NDArray[np.integer]:
    pixels = raster.pixels(tile.read_rows, tile.read_columns)
    return segmenter.segment_piece(pixels, tile.after).labels[tile.inside]


def _areas(counts: npt.NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    total, order = max(int(counts.sum()), 1), np.argsort(-counts, kind="stable").tolist()
    return {names[index]: int(counts[index]) / total for index in order if counts[index]}


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in RASTER_SUFFIXES
