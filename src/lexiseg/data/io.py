"""Photographs and label maps from disk, each with one rule for every oddity of its file format."""

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from lexiseg.constants import LABEL_CODES
from lexiseg.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""File endings that count as a photograph when a folder is listed; compared in lower case."""

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow's readers raise on files that are cut short, garbled or not images."""

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_MASK_BYTES = 2 * 2**30
"""Most that the masks of one photograph may take, one byte a pixel."""

_SCALED_GREYS = {"L;2": 85, "L;4": 17}
"""Pillow stretches PNG greys of 2 and 4 bits to 0-255; these factors take a label id back."""


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read any photograph as 8-bit RGB.

    The camera's EXIF orientation is applied. Grey is repeated over the channels. Transparency is laid on
    white, as a viewer shows it. 16-bit greys are scaled to 8 bits (65535 becomes 255), not clipped. CMYK is
    converted. Of an animation or a multi-picture file the first frame counts.

    Args:
        path: An image file.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        DataError: The file is missing, cut short, no image, or holds floating-point values of unknown range.
    """
    path = Path(path)
    with _open(path) as image:
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return np.array(_to_rgb(image, path), dtype=np.uint8)
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def read_label(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read a label map's raw ids, exactly as stored: no colour conversion, no scaling, no rotation.

    Args:
        path: A single-channel image: grey, palette (the indices count, not the colours) or 1-bit.

    Returns:
        ``(H, W)`` uint8 raw ids, before any schema.

    Raises:
        DataError: The file is missing, damaged, a colour image, lossily compressed, or has ids above 255.
    """
    path = Path(path)
    ids = _read_ids(path, what="label map", kind="class")
    if ids.min() < 0 or ids.max() >= LABEL_CODES:
        raise DataError(
            f"label map {path}: ids from {ids.min()} to {ids.max()}, but a label map holds 0 to 255; "
            "map the ids to 0-255 first"
        )
    return ids.astype(np.uint8)


def read_masks(path: str | Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Read class-agnostic masks that do not overlap, stored as mask ids.

    Args:
        path: A single-channel image of 1, 8 or 16 bits, palette included: each pixel holds the id of its
            mask, 0 where there is none. No id is special otherwise, and ids may have gaps.
        size: Height and width that they must have.

    Returns:
        ``(M, H, W)`` bool, by ascending id; M is 0 where all ids are 0.

    Raises:
        DataError: The file is missing, damaged, a colour image, lossily compressed, of another size, or its
            masks would not fit the memory.
    """
    path = Path(path)
    ids = _read_ids(path, what="mask file", kind="mask")
    if ids.shape != size:
        raise DataError(
            f"mask file {path} has {ids.shape[0]}x{ids.shape[1]} pixels (height x width), the photograph, "
            f"turned upright, {size[0]}x{size[1]}; make the masks on the upright photograph at its full size"
        )
    kept = [index for index in np.unique(ids).tolist() if index]
    if len(kept) * ids.size > _MASK_BYTES:
        raise DataError(
            f"mask file {path}: {len(kept)} masks of {size[0]}x{size[1]} pixels take more than "
            f"{_MASK_BYTES // 2**30} GiB; give fewer masks, or a smaller photograph"
        )
    masks = np.empty((len(kept), *size), dtype=np.bool_)
    for mask, index in zip(masks, kept, strict=True):
        np.equal(ids, index, out=mask)
    return masks


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image as `read_image` would return it, from the header alone.

    Raises:
        DataError: The file is missing or no image.
    """
    path = Path(path)
    with _open(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def _read_ids(path: Path, *, what: str, kind: str) -> npt.NDArray[np.integer]:
    """``(H, W)`` ids exactly as stored."""
    with _open(path) as image:
        if image.format == "JPEG":
            raise DataError(
                f"{what} {path} is a JPEG, whose compression changes ids near every border; "
                f"store {what}s as PNG"
            )
        if image.mode not in ("1", "L", "P", *_SIXTEEN_BIT):
            raise DataError(
                f"{what} {path}: expected one channel of {kind} ids, came a colour image (mode "
                f"{image.mode}); convert each colour to its {kind} id and save as 8-bit grey or palette PNG"
            )
        factor = _grey_factor(image)
        try:
            raw = np.asarray(image)
        except _DAMAGE as error:
            raise _damaged(path, error) from error
    if raw.dtype == np.bool_:
        return raw.astype(np.uint8)
    return raw // factor if factor > 1 else raw


def _open(path: Path) -> Image.Image:
    """Open without decoding; every failure names the file."""
    if not path.exists():
        raise DataError(f"no file at {path}; check the path")
    if path.is_dir():
        raise DataError(f"expected an image file, came the folder {path}")
    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image that Pillow can read; remove or replace it") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} has more pixels than Pillow opens ({error}); crop or shrink it") from error
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{path} is damaged or cut short ({reason}); replace it with a complete copy")


def _grey_factor(image: Image.Image) -> int:
    """How much Pillow's reader multiplies the stored grey ids; 1 for 8-bit files."""
    tiles = getattr(image, "tile", None)
    if image.format != "PNG" or image.mode != "L" or not tiles:
        return 1
    arguments = tiles[0][3]
    rawmode = arguments[0] if isinstance(arguments, tuple) else arguments
    return _SCALED_GREYS.get(str(rawmode), 1)


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in _SIXTEEN_BIT:
        return _from_sixteen_bit(image, path).convert("RGB")
    if image.mode == "F":
        raise DataError(f"{path} holds floating-point values of unknown range; save it with 8 or 16 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def _from_sixteen_bit(image: Image.Image, path: Path) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(
            f"{path}: grey values from {values.min()} to {values.max()} do not fit 16 bits; "
            "save it with 8 or 16 bits"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
