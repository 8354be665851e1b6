"""Rasters of any size, read and written window by window: GeoTIFFs and what else GDAL opens. Needs the extra ``geo``."""

import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lexiseg.drawing.palette import palette_bytes
from lexiseg.errors import DataError, LexisegError
from lexiseg.label_codes import EIGHT_BIT, LabelMap, label_codes
from lexiseg.lazy import require_extra

RASTER_SUFFIXES = (".tif", ".tiff")
"""Endings of the files that are read window by window; in lower case."""

BLOCK = 512
"""Side of the blocks of a label raster, in pixels."""

_CACHE_MIB = 64
"""What GDAL keeps of the blocks that it read; its own default is a share of the machine's memory."""

_SMALLEST_OVERVIEW = 256

Tile = tuple[slice, slice, LabelMap]
"""Rows and columns of a picture, and the labels there."""


class Raster:
    """An opened raster as a photograph.

    The colours are its bands red, green and blue where it says which those are, else its first three; a single band is grey.

    Attributes:
        path: Its file.
        dataset: Of :func:`open_raster`.

    Raises:
        DataError: No bands of eight bits, or a colour table.
    """

    def __init__(self, path: Path, dataset: Any) -> None:
        self.path, self.dataset = path, dataset
        self._bands = _colour_bands(path, dataset)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.dataset.height, self.dataset.width

    def pixels(self, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
        """``(R, C, 3)`` uint8 RGB of a window.

        Raises:
            DataError: The file is cut short or damaged.
        """
        with _reading(self.path):
            bands = self.dataset.read(self._bands, window=(_ends(rows), _ends(columns)))
        return np.ascontiguousarray(bands.transpose(1, 2, 0))

    def is_empty(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """``(R, C)`` where there is no picture, by the raster's own no-data value, mask or alpha; raises as :meth:`pixels`."""
        with _reading(self.path):
            mask = self.dataset.dataset_mask(window=(_ends(rows), _ends(columns)))
        return np.asarray(mask == 0)


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open a raster as ``rasterio`` does; what is read of it in here fills no more than a small cache.

    Raises:
        ConfigError: The extra ``geo`` is not installed.
        DataError: No raster.
    """
    rasterio = require_rasterio()
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MIB), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with _reading(path):
            dataset = rasterio.open(path)
        with dataset:
            yield dataset


def require_rasterio(module: str = "rasterio") -> Any:
    """The library, or a module of it.

    Raises:
        ConfigError: It is not installed.
    """
    return require_extra(module, "geo", "TIFF files at --scale native")


def write_labels(
    path: Path, like: Raster, names: Sequence[str], tiles: Iterable[Tile], tags: Mapping[str, str]
) -> npt.NDArray[np.int64]:
    """Write a tiled, compressed GeoTIFF of labels with a raster's place on earth, colours, class names and overviews.

    Pixels hold class ids, 255 (65535 with more than 254 of them) where there is none, which is its no-data value.

    Args:
        path: Is filled; call it inside :func:`lexiseg.storage.write_atomically`.
        like: Open; its coordinate system, transform, control points and size are kept.
        names: By class id; written as the tags ``CLASS_0``, ``CLASS_1`` and so on.
        tiles: Together the picture; their labels are of the type that the number of names asks for.
        tags: Further ones.

    Returns:
        ``(len(names),)`` pixels of each class.

    Raises:
        LexisegError: The disk is full, or holds something else than was written.
    """
    rasterio, source, codes = require_rasterio(), like.dataset, label_codes(len(names))
    place: dict[str, Any] = {"crs": source.crs}
    if source.gcps[0]:
        place = {"gcps": source.gcps[0], "crs": source.gcps[1]}
    elif not source.transform.is_identity:
        place["transform"] = source.transform
    counts = np.zeros(codes.size, dtype=np.int64)
    sums: list[tuple[slice, slice, int]] = []
    with _filling(path):
        with rasterio.open(
            path, "w", driver="GTiff", height=like.size[0], width=like.size[1], count=1, dtype=codes.dtype.name,
            nodata=codes.ignore, tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate",
            BIGTIFF="IF_SAFER", **place,
        ) as target:  # fmt: skip
            if codes == EIGHT_BIT:
                target.write_colormap(1, _colour_table(names))
            classes = {f"CLASS_{index}": name for index, name in enumerate(names)}
            target.update_tags(**_point_or_area(source), **tags, **classes)
            for rows, columns, labels in tiles:
                target.write(labels, 1, window=(_ends(rows), _ends(columns)))
                counts += np.bincount(labels.ravel(), minlength=codes.size)
                sums.append((rows, columns, zlib.crc32(labels)))
        with rasterio.open(path, "r+") as written:
            written.build_overviews(_overviews(like.size), rasterio.enums.Resampling.nearest)
        # GDAL writes the last blocks when it closes a file, and tells nobody if they found no room.
        with rasterio.open(path) as written:
            for rows, columns, told in sums:
                if zlib.crc32(written.read(1, window=(_ends(rows), _ends(columns)))) != told:
                    raise LexisegError(
                        f"cannot write {path.parent} (the file holds something else); is the disk full?"
                    )
    return counts[: len(names)]


def _colour_bands(path: Path, dataset: Any) -> list[int]:
    """Numbers of three bands, from 1."""
    interp = _meanings(dataset)
    if "palette" in interp:
        raise DataError(
            f"{path} holds places in a colour table; write colours first, as by `gdal_translate -expand rgb`"
        )
    bands = [index for index, kind in enumerate(interp, start=1) if kind != "alpha"]
    if not bands:
        raise DataError(f"{path} has no band of colours; expected red, green and blue, or grey")
    named = [interp.index(colour) + 1 for colour in ("red", "green", "blue") if colour in interp]
    chosen = named if len(named) == 3 else bands[:3] if len(bands) >= 3 else bands[:1] * 3
    kinds = sorted({dataset.dtypes[band - 1] for band in chosen})
    if kinds != ["uint8"]:
        raise DataError(
            f"{path} holds numbers of type {', '.join(kinds)}, of which nobody says which is white; scale them to 8 bits "
            "first, as by `gdal_translate -ot Byte -scale 0 3000 0 255`"
        )
    return chosen


def _meanings(dataset: Any) -> list[str]:
    """What each band stands for, as GDAL names it in lower case."""
    return [kind.name.lower() for kind in dataset.colorinterp]


def _colour_table(names: Sequence[str]) -> dict[int, tuple[int, int, int, int]]:
    """Value to colour; what has no label is transparent."""
    colours = np.array(palette_bytes(names)).reshape(-1, 3).tolist()
    return {
        value: (red, green, blue, 0 if value == EIGHT_BIT.ignore else 255)
        for value, (red, green, blue) in enumerate(colours)
    }


def _point_or_area(source: Any) -> dict[str, str]:
    """Whether the transform speaks of corners or centres of pixels."""
    told = source.tags().get("AREA_OR_POINT")
    return {} if told is None else {"AREA_OR_POINT": told}


def _overviews(size: tuple[int, int]) -> list[int]:
    """Powers of two, until an overview is small."""
    factors = [2]
    while max(size) // factors[-1] > _SMALLEST_OVERVIEW:
        factors.append(2 * factors[-1])
    return factors


def _ends(part: slice) -> tuple[int, int]:
    return part.start, part.stop


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What GDAL says against reading a file, as a message of ours."""
    try:
        yield
    except _errors() as error:
        raise DataError(f"cannot read {path} ({error}); is it whole, and a TIFF?") from error


@contextmanager
def _filling(path: Path) -> Iterator[None]:
    """What GDAL says against writing a file, as a message of ours."""
    try:
        yield
    except _errors() as error:
        raise LexisegError(
            f"cannot write to {path.parent} ({error}); is the disk full? Choose another folder"
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    rasterio = require_rasterio()
    return rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError
