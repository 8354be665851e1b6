"""Photographs from wherever they come, and label maps from disk; one rule for every oddity of a file format."""

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from lexiseg.errors import DataError
from lexiseg.label_codes import SIXTEEN_BIT, LabelMap

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""File endings that count as a photograph when a folder is listed; compared in lower case."""

ImageSource = str | Path | bytes | BinaryIO | Image.Image | npt.NDArray[np.uint8]
"""A path, a file's content, a file opened for reading bytes, a Pillow image, or ``(H, W, 3)`` uint8 RGB."""

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow's readers raise on files that are cut short, garbled or not images."""

_CONTENT = "the content given"
"""What messages call an image that came without a name."""

PLAIN_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Pillow's names of what is read of strangers; others, such as EPS, start programs."""

MOST_PIXELS = 40_000_000
"""Of a stranger's photograph, unless it is said otherwise."""

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_MASK_BYTES = 2 * 2**30
"""Most that the masks of one photograph may take, one byte a pixel."""

_SCALED_GREYS = {"L;2": 85, "L;4": 17}
"""Pillow stretches PNG greys of 2 and 4 bits to 0-255; these factors take a label id back."""


def read_image(source: ImageSource) -> npt.NDArray[np.uint8]:
    """Any photograph as 8-bit RGB.

    The camera's EXIF orientation is applied. Grey is repeated over the channels. Transparency is laid on
    white, as a viewer shows it. 16-bit greys are scaled to 8 bits (65535 becomes 255), not clipped. CMYK is
    converted. Of an animation or a multi-picture file the first frame counts.

    Args:
        source: An image file as a path, as its bytes, or opened (it is read from where it stands to its end); a Pillow
            image, which is left as it is and counts with the frame it stands at; or an array, which must be RGB
            already and comes back itself.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        DataError: The file is missing, cut short, no image, or holds floating-point values of unknown range; or an
            array of another shape or type.
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source)
    if isinstance(source, Image.Image):
        return _pixels(source, "the Pillow image", ours=False)
    if isinstance(source, str | Path):
        path = Path(source)
        with _open(path) as image:
            return _pixels(image, str(path))
    with _open_content(_content(source)) as image:
        return _pixels(image, _CONTENT)


def read_content(content: bytes, *, most_pixels: int = MOST_PIXELS) -> npt.NDArray[np.uint8]:
    """A stranger's photograph as :func:`read_image` gives it; nothing is decoded before its kind and size are known.

    Args:
        content: A file's bytes; only :data:`PLAIN_FORMATS` are tried.
        most_pixels: Of the picture.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        DataError: No image of those formats, too many pixels, or as :func:`read_image`.
    """
    with _opened(io.BytesIO(content), _CONTENT, PLAIN_FORMATS) as image:
        width, height = image.size
        if width * height > most_pixels:
            raise DataError(
                f"{_CONTENT} has {height}x{width} pixels (height x width), and at most {most_pixels} are read; shrink it"
            )
        return _pixels(image, _CONTENT)


def read_label(path: str | Path) -> LabelMap:
    """Read a label map's raw ids, exactly as stored: no colour conversion, no scaling, no rotation.

    Args:
        path: A single-channel image of 1, 8 or 16 bits: grey or palette (the indices count, not the colours).

    Returns:
        ``(H, W)`` raw ids before any schema, uint8 from a file of 1 or 8 bits, else uint16.

    Raises:
        DataError: The file is missing, damaged, a colour image, lossily compressed, or has ids above 65535.
    """
    path = Path(path)
    ids = _read_ids(path, what="label map", kind="class")
    if ids.dtype in (np.uint8, np.uint16):
        return ids
    if ids.min() < 0 or ids.max() >= SIXTEEN_BIT.size:
        raise DataError(
            f"label map {path}: ids from {ids.min()} to {ids.max()}, but a label map holds 0 to "
            f"{SIXTEEN_BIT.size - 1}; map the ids to that range first"
        )
    return ids.astype(np.uint16)


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
        turned = _orientation(image) in (5, 6, 7, 8)
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


def _checked_array(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise DataError(
            f"expected an image as a (height, width, 3) uint8 RGB array, got {array.dtype} {array.shape}; a path, a "
            "file's bytes or a Pillow image may be of any kind"
        )
    return array


def _content(source: bytes | BinaryIO) -> bytes:
    """All bytes of a file that is open or was read already."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not hasattr(source, "read"):
        raise DataError(
            "expected an image as a path, a file's bytes, an open file, a Pillow image or a (height, width, 3) uint8 RGB "
            f"array, got {type(source).__name__}"
        )
    content = source.read()
    if not isinstance(content, bytes):
        raise DataError(
            f"expected a file opened for reading bytes, got one that gives {type(content).__name__}; open it with mode 'rb'"
        )
    return content


def _pixels(image: Image.Image, name: str, *, ours: bool = True) -> npt.NDArray[np.uint8]:
    """Decode, turn upright, convert; an image that is not ours is copied for it."""
    try:
        image.load()
        image = _upright(image, ours=ours)
        return np.array(_to_rgb(image, name), dtype=np.uint8)
    except _DAMAGE as error:
        raise _damaged(name, error) from error


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(0x0112, 1)
    except _DAMAGE:
        return 1


def _upright(image: Image.Image, *, ours: bool) -> Image.Image:
    """Turned as its EXIF orientation says; garbled EXIF says nothing, and viewers show such a picture as it is stored."""
    try:
        if not ours:
            return ImageOps.exif_transpose(image)
        ImageOps.exif_transpose(image, in_place=True)
    except _DAMAGE:
        image.info.pop("exif", None)
    return image


def _open(path: Path) -> Image.Image:
    """Open without decoding; every failure names the file."""
    if not path.exists():
        raise DataError(f"no file at {path}; check the path")
    if path.is_dir():
        raise DataError(f"expected an image file, came the folder {path}")
    if not path.is_file():  # a pipe would be waited for, and a device may have no end
        raise DataError(f"expected an image file, but {path} is a pipe or a device; store the image first")
    return _opened(path, str(path))


def _open_content(content: bytes) -> Image.Image:
    return _opened(io.BytesIO(content), _CONTENT)


def _opened(file: Path | BinaryIO, name: str, formats: tuple[str, ...] | None = None) -> Image.Image:
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not an image that Pillow can read; remove or replace it") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} has more pixels than Pillow opens ({error}); crop or shrink it") from error
    except _DAMAGE as error:
        raise _damaged(name, error) from error


def _damaged(name: Path | str, error: BaseException) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{name} is damaged or cut short ({reason}); replace it with a complete copy")


def _grey_factor(image: Image.Image) -> int:
    """How much Pillow's reader multiplies the stored grey ids; 1 for 8-bit files."""
    tiles = getattr(image, "tile", None)
    if image.format != "PNG" or image.mode != "L" or not tiles:
        return 1
    arguments = tiles[0][3]
    rawmode = arguments[0] if isinstance(arguments, tuple) else arguments
    return _SCALED_GREYS.get(str(rawmode), 1)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in _SIXTEEN_BIT:
        return _from_sixteen_bit(image, name).convert("RGB")
    if image.mode == "F":
        raise DataError(f"{name} holds floating-point values of unknown range; save it with 8 or 16 bits")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def _from_sixteen_bit(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(
            f"{name}: grey values from {values.min()} to {values.max()} do not fit 16 bits; "
            "save it with 8 or 16 bits"
        )
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
