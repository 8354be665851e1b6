"""Photographs: every mode, size, orientation, container and damage, and things that only have a photograph's name."""

import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from campaign.case import Answer, Case, Expected
from campaign.made import Pixels, check_prediction, check_same_as, predicting, scene

KIND = "images"
METHODS = ("sclip", "tg-clip")

Save = Callable[[Pixels, Path], None]


def cases() -> Iterator[Case]:
    """All of them, in an order that never changes."""
    yield from _containers()
    yield from _modes()
    yield from _orientations()
    yield from _sizes()
    yield from _damages()
    yield from _pretenders()


def _case(name: str, prepare: Callable[[], list[str]], **more: Any) -> Case:
    return Case(KIND, name, prepare, **more)


def _saved(**options: Any) -> Save:
    return lambda pixels, path: Image.fromarray(pixels).save(path, **options)


LOSSLESS: dict[str, Save] = {
    "plain.png": _saved(),
    "interlaced-name.PNG": _saved(),
    "optimised.png": _saved(optimize=True),
    "stored.png": _saved(compress_level=0),
    "bitmap.bmp": _saved(),
    "device.dib": _saved(),
    "lossless.webp": _saved(lossless=True),
    "raw.tif": _saved(),
    "lzw.tif": _saved(compression="tiff_lzw"),
    "deflate.tiff": _saved(compression="tiff_deflate"),
    "packbits.tif": _saved(compression="packbits"),
    "portable.ppm": _saved(),
    "targa.tga": _saved(),
    "packed.tga": _saved(compression="tga_rle"),
    "paint.pcx": _saved(),
    "silicon.sgi": _saved(),
    "windows.ico": _saved(sizes=[(72, 40)]),
    "name with spaces, ünïcödé and 'quotes'.png": _saved(),
    "-dash.png": _saved(),
    "[brackets]*.png": _saved(),
    "line\nbreak.png": _saved(),
    "tab\tand \x1b[31mred.png": _saved(),
    "no_ending": _saved(format="PNG"),
    "png_called.jpg": _saved(format="PNG"),
    "bmp_called.tif": _saved(format="BMP"),
    f"{'long' * 55}.png": _saved(),
    "dotted.name.with.many.dots.png": _saved(),
    "icc_garbage.png": _saved(icc_profile=b"no profile" * 40),
    "exif_garbage.png": _saved(exif=b"Exif\0\0garbage" * 3),
    "dots_per_inch_zero.png": _saved(dpi=(0, 0)),
}
"""The same pixels in every container that keeps them."""


def _containers() -> Iterator[Case]:
    writable = dict(LOSSLESS)
    if features.check("jpg_2000"):
        writable["lossless.jp2"] = _saved(irreversible=False)
    for name, save in writable.items():

        def prepare(name: str = name, save: Save = save) -> list[str]:
            save(scene(), Path(name))
            return predicting(name if not name.startswith("-") else f"./{name}")

        def judge(_: Answer, name: str = name) -> None:
            check_same_as(Path(name).stem, scene())

        yield _case(f"container {name[:40]!r}", prepare, expected=Expected.ANSWERED, judge=judge)
    for name, options in (
        ("fine.jpg", {"quality": 95}),
        ("coarse.jpeg", {"quality": 5}),
        ("progressive.jpg", {"progressive": True}),
        ("lossy.webp", {"quality": 40}),
        ("jpeg_inside.tif", {"compression": "jpeg"}),
    ):

        def prepare_lossy(name: str = name, options: dict[str, Any] = options) -> list[str]:
            Image.fromarray(scene()).save(name, **options)
            return predicting(name)

        def judge_lossy(_: Answer, name: str = name) -> None:
            with Image.open(name) as image:
                check_same_as(Path(name).stem, np.asarray(image.convert("RGB")))

        yield _case(f"container {name}", prepare_lossy, expected=Expected.ANSWERED, judge=judge_lossy)


def _modes() -> Iterator[Case]:
    grey = np.asarray(Image.fromarray(scene()).convert("L"))
    coloured = scene()
    repeated = grey.repeat(3).reshape(*grey.shape, 3)
    mask = grey > 80
    alpha = np.dstack([coloured, np.where(mask, 255, 0).astype(np.uint8)])
    on_white = np.where(mask[..., None], coloured, 255).astype(np.uint8)
    grey_alpha = np.dstack([grey, np.where(mask, 255, 0).astype(np.uint8)])
    forms: dict[str, tuple[Callable[[str], None], Pixels]] = {
        "grey.png": (lambda path: Image.fromarray(grey).save(path), repeated),
        "grey.jpg as grey": (lambda path: Image.fromarray(grey).save(path, format="BMP"), repeated),
        "grey.tif": (lambda path: Image.fromarray(grey).save(path), repeated),
        "grey.pgm": (lambda path: Image.fromarray(grey).save(path), repeated),
        "sixteen_grey.png": (lambda path: Image.fromarray(grey.astype(np.uint16) * 257).save(path), repeated),
        "sixteen_grey.tif": (lambda path: Image.fromarray(grey.astype(np.uint16) * 257).save(path), repeated),
        "big_endian_grey.tif": (lambda path: _big_endian(grey, path), repeated),
        "thirty_two_grey.tif": (
            lambda path: Image.fromarray(grey.astype(np.int32) * 257).save(path),
            repeated,
        ),
        "sixteen_colour.png": (
            lambda path: Path(path).write_bytes(png(coloured.astype(np.uint16) * 257)),
            coloured,
        ),
        "opaque.png": (lambda path: Image.fromarray(coloured).convert("RGBA").save(path), coloured),
        "holes.png": (lambda path: Image.fromarray(alpha).save(path), on_white),
        "holes.webp": (lambda path: Image.fromarray(alpha).save(path, lossless=True, exact=True), on_white),
        "holes.tif": (lambda path: Image.fromarray(alpha).save(path), on_white),
        "grey_holes.png": (
            lambda path: Image.fromarray(grey_alpha, "LA").save(path),
            np.where(mask[..., None], repeated, 255).astype(np.uint8),
        ),
        "palette.png": (lambda path: Image.fromarray(coloured).quantize(4).save(path), coloured),
        "palette.gif": (lambda path: Image.fromarray(coloured).quantize(4).save(path), coloured),
        "palette.bmp": (lambda path: Image.fromarray(coloured).quantize(4).save(path), coloured),
        "unused_transparency.png": (
            lambda path: Image.fromarray(coloured).quantize(4).save(path, transparency=3),
            coloured,
        ),
        "two_colours.png": (
            lambda path: Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("1").save(path),
            np.where(mask[..., None], 255, 0).repeat(3, axis=2).astype(np.uint8),
        ),
        "two_colours.tif": (
            lambda path: (
                Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
                .convert("1")
                .save(path, compression="group4")
            ),
            np.where(mask[..., None], 255, 0).repeat(3, axis=2).astype(np.uint8),
        ),
        "animated.gif": (
            lambda path: Image.fromarray(coloured).save(
                path, save_all=True, append_images=[Image.new("RGB", (72, 40), "green")] * 3
            ),
            coloured,
        ),
        "animated.webp": (
            lambda path: Image.fromarray(coloured).save(
                path, save_all=True, lossless=True, append_images=[Image.new("RGB", (72, 40), "green")]
            ),
            coloured,
        ),
        "animated.png": (
            lambda path: Image.fromarray(coloured).save(
                path, save_all=True, append_images=[Image.new("RGB", (72, 40), "green")]
            ),
            coloured,
        ),
        "pages.tif": (
            lambda path: Image.fromarray(coloured).save(
                path, save_all=True, append_images=[Image.new("RGB", (11, 13), "green")]
            ),
            coloured,
        ),
    }
    for name, (save, pixels) in forms.items():

        def prepare(name: str = name, save: Callable[[str], None] = save) -> list[str]:
            save(name)
            return predicting(name)

        def judge(_: Answer, name: str = name, pixels: Pixels = pixels) -> None:
            check_same_as(Path(name).stem, pixels)

        yield _case(f"mode {name}", prepare, expected=Expected.ANSWERED, judge=judge)
    for name, mode in (
        ("four_inks.jpg", "CMYK"),
        ("four_inks.tif", "CMYK"),
        ("luma.jpg", "YCbCr"),
        ("lab.tif", "LAB"),
    ):

        def prepare_mode(name: str = name, mode: str = mode) -> list[str]:
            image = Image.fromarray(scene())
            image = (
                image.convert(mode) if mode != "LAB" else Image.fromarray(scene()[..., ::-1].copy(), "LAB")
            )
            image.save(name)
            return predicting(name)

        def judge_mode(_: Answer, name: str = name) -> None:
            check_prediction(Path(name).stem, (40, 72))

        expected = Expected.EITHER if mode == "LAB" else Expected.ANSWERED
        yield _case(f"mode {mode} in {name}", prepare_mode, expected=expected, judge=judge_mode)
    for name, array in (
        ("floats.tif", grey.astype(np.float32) / 255),
        ("not_numbers.tif", np.full((7, 11), np.nan, np.float32)),
        ("negative.tif", grey.astype(np.int32) - 300),
        ("huge_values.tif", grey.astype(np.int32) * 2**20),
    ):

        def prepare_refused(name: str = name, array: Any = array) -> list[str]:
            Image.fromarray(array).save(name)
            return predicting(name)

        yield _case(f"mode {name}", prepare_refused, expected=Expected.SKIPPED, says=(name,))


_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
    0: lambda upright: upright,
    9: lambda upright: upright,
}
"""How the upright picture is stored under each EXIF orientation; 0 and 9 do not exist and turn nothing."""


def _orientations() -> Iterator[Case]:
    for ending in ("png", "webp", "tif", "jpg"):
        for orientation, turn in _TURNS.items():
            if ending in ("webp", "tif") and orientation not in (3, 5, 6, 8):
                continue

            def prepare(
                orientation: int = orientation, turn: Callable[[Pixels], Pixels] = turn, ending: str = ending
            ) -> list[str]:
                exif = Image.Exif()
                exif[0x0112] = orientation
                options: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
                stored = Image.fromarray(np.ascontiguousarray(turn(scene())))
                stored.save(f"turned.{ending}", exif=exif, **options)
                return predicting(f"turned.{ending}")

            def judge(_: Answer, ending: str = ending) -> None:
                if ending == "jpg":
                    check_prediction("turned", (40, 72))
                else:
                    check_same_as("turned", scene())

            yield _case(
                f"orientation {orientation} in {ending}", prepare, expected=Expected.ANSWERED, judge=judge
            )


_SIZES = (
    (1, 1), (1, 2), (2, 1), (3, 3), (7, 5), (47, 49), (48, 48), (49, 47), (1, 97), (97, 1), (3, 211), (211, 3), (16, 3000),
    (3000, 16), (1, 4000), (4000, 1), (5, 30_000), (30_000, 5), (601, 809), (2000, 16_000), (3001, 4001),
)  # fmt: skip
_LARGE = 2_000_000


def _sizes() -> Iterator[Case]:
    for method in METHODS:
        for size in _SIZES:

            def prepare(size: tuple[int, int] = size, method: str = method) -> list[str]:
                Image.fromarray(scene(*size)).save("sized.png", compress_level=1)
                return predicting("sized.png", "--no-overlay", method=method)

            def judge(_: Answer, size: tuple[int, int] = size) -> None:
                check_prediction("sized", size)

            yield _case(
                f"size {size[0]}x{size[1]}, {method}",
                prepare,
                expected=Expected.EITHER if max(size) / min(size) > 300 else Expected.ANSWERED,
                judge=judge,
                seconds=120,
                mebibytes=4096,
            )


def _encoded(ending: str) -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(5).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    Image.fromarray(noise).save(content, format={"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
    return content.getvalue()


_DAMAGED = ("png", "jpg", "gif", "webp", "bmp", "tif")
_SHARES = (0.0, 0.02, 0.1, 0.5, 0.9)


def _damages() -> Iterator[Case]:
    for ending in _DAMAGED:
        for share in _SHARES:

            def prepare_cut(ending: str = ending, share: float = share) -> list[str]:
                content = _encoded(ending)
                Path(f"cut.{ending}").write_bytes(content[: int(share * len(content))])
                return predicting(f"cut.{ending}")

            yield _case(
                f"{ending} cut at {share:.0%}",
                prepare_cut,
                expected=Expected.SKIPPED,
                says=(f"cut.{ending}",),
            )
        for seed in range(5):

            def prepare_flipped(ending: str = ending, seed: int = seed) -> list[str]:
                chance = random.Random(f"{ending}{seed}")
                content = bytearray(_encoded(ending))
                for _ in range(1 + 7 * seed):
                    content[chance.randrange(len(content) if seed % 2 else 64)] ^= 1 << chance.randrange(8)
                Path(f"flipped.{ending}").write_bytes(bytes(content))
                return predicting(f"flipped.{ending}")

            yield _case(f"{ending} with flipped bits, {seed}", prepare_flipped, expected=Expected.EITHER)


def _write(name: str, content: bytes) -> Callable[[], list[str]]:
    def prepare() -> list[str]:
        Path(name).write_bytes(content)
        return predicting(name)

    return prepare


def _pretenders() -> Iterator[Case]:
    contents = {
        "empty.png": b"",
        "one_byte.jpg": b"\xff",
        "zeros.png": bytes(5000),
        "text.jpg": b"not a picture\n",
        "page.png": b"<!DOCTYPE html><html><body>404</body></html>",
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        "document.png": b"%PDF-1.7\n%%EOF\n",
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "archive.png": b"PK\x03\x04" + bytes(60),
        "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "signature_only.png": b"\x89PNG\r\n\x1a\n",
        "no_pixels.png": png_header(72, 40),
        "no_width.png": png_header(0, 40) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""),
        "four_billion.png": png_header(2**31 - 1, 2**31 - 1) + chunk(b"IEND", b""),
        "bomb.png": bomb(60_000, 60_000),
        "text_bomb.png": png(
            scene(), before=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
        ),
        "huge_bitmap.bmp": _huge_bitmap(),
        "riff.webp": b"RIFF\xff\xff\xff\xffWEBPVP8L" + bytes(40),
        "bad_depth.png": b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 72, 40, 3, 2, 0, 0, 0)),
        "loop.tif": b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8),
    }
    for name, content in contents.items():
        if name == "text_bomb.png":
            yield _case("pretender text_bomb.png", _write(name, content), expected=Expected.EITHER)
            continue
        yield _case(f"pretender {name}", _write(name, content), expected=Expected.SKIPPED, says=(name,))

    def made(name: str, make: Callable[[Path], Any]) -> Callable[[], list[str]]:
        def prepare() -> list[str]:
            make(Path(name))
            return predicting(name)

        return prepare

    yield _case(
        "a folder called photo.png", made("photo.png", Path.mkdir), says=("no image found in photo.png",)
    )
    yield _case(
        "a pipe", made("pipe.png", os.mkfifo), expected=Expected.SKIPPED, says=("pipe.png",), seconds=20
    )
    yield _case(
        "a device without end",
        made("zeros.png", lambda path: path.symlink_to("/dev/zero")),
        expected=Expected.SKIPPED,
        says=("zeros.png",),
        seconds=20,
    )
    yield _case(
        "a device that is empty",
        made("null.png", lambda path: path.symlink_to("/dev/null")),
        expected=Expected.SKIPPED,
        says=("null.png",),
        seconds=20,
    )
    yield _case(
        "a link that leads nowhere",
        made("nowhere.png", lambda path: path.symlink_to("gone.png")),
        says=("nowhere.png: no such file",),
    )
    yield _case(
        "a link to itself",
        made("loop.png", lambda path: path.symlink_to("loop.png")),
        says=("loop.png: no such file",),
    )
    yield _case(
        "a photograph that is not there",
        lambda: predicting("gone.png"),
        says=("gone.png",),
    )
    yield _case("a glob without matches", lambda: predicting("*.png"), says=("no image found",))
    yield _case("an empty name", lambda: predicting(""), says=("no image found",))
    yield _case("a name longer than names may be", lambda: predicting("x" * 5000 + ".png"))
    yield _case("a name with a null character", lambda: predicting("nu\0ll.png"), expected=Expected.EITHER)

    def closed() -> list[str]:
        Image.fromarray(scene()).save("closed.png")
        Path("closed.png").chmod(0)
        return predicting("closed.png")

    yield _case(
        "a photograph without rights",
        closed,
        expected=Expected.SKIPPED,
        says=("closed.png",),
        ordinary_user=True,
    )


def chunk(name: bytes, content: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width: int, height: int, *, bits: int = 8) -> bytes:
    """A colour PNG's beginning."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))


def png(pixels: np.ndarray, *, before: bytes = b"") -> bytes:
    """A colour PNG of 8 or 16 bits a channel; Pillow writes none of 16."""
    rows = b"".join(b"\0" + row.astype(f">u{pixels.dtype.itemsize}").tobytes() for row in pixels)
    header = png_header(pixels.shape[1], pixels.shape[0], bits=8 * pixels.dtype.itemsize)
    return header + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A small file of very many pixels."""
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(3 * width + 1)) for _ in range(40)) + packer.flush()
    return png_header(width, height) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _huge_bitmap() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 200_000, 200_000, 1, 24, 0, 0, 1, 1, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def _big_endian(grey: np.ndarray, path: str) -> None:
    image = Image.frombytes("I;16B", grey.shape[::-1], (grey.astype(np.uint16) * 257).astype(">u2").tobytes())
    image.save(path)
