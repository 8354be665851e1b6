import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.io import image_size, read_content, read_image, read_label, read_masks
from lexiseg.errors import DataError


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright: rotate by 90 degrees clockwise to show
    image.save(tmp_path / "a.png", exif=exif)
    read = read_image(tmp_path / "a.png")
    assert read.shape == (6, 4, 3)
    assert image_size(tmp_path / "a.png") == (6, 4)
    assert read[0, 3].tolist() == [255, 255, 255]
    assert read.sum() == 3 * 255


def test_grey_is_repeated(tmp_path):
    Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")[0]
    assert read[0].tolist() == [10, 20, 30]
    assert read[1].tolist() == [255, 255, 255]
    assert read[2].tolist() == [127, 127, 127]


def test_palette_colours_are_looked_up(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[1, 2, 3], [200, 100, 50]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (16, 8), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").min() > 250


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (5, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_truncated_image_names_the_file(tmp_path, suffix):
    path = tmp_path / f"photo.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (61, 67, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"photo\.{suffix}"):
        read_image(path)


def _turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(path, exif=exif)


ODDITIES = {
    "turned.png": _turned,
    "turned.tif": _turned,
    "turned.jpg": _turned,
    "alpha.png": lambda path: Image.fromarray(np.dstack([NOISE, NOISE[..., 0]])).save(path),
    "grey16.png": lambda path: Image.fromarray(NOISE[..., 0].astype(np.uint16) * 200).save(path),
    "palette.png": lambda path: Image.fromarray(NOISE).quantize(7).save(path, transparency=3),
    "cmyk.jpg": lambda path: Image.fromarray(NOISE).convert("CMYK").save(path),
}
NOISE = np.random.default_rng(3).integers(0, 256, (11, 17, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ODDITIES)
def test_one_image_at_every_door(tmp_path, name):
    path = tmp_path / name
    ODDITIES[name](path)
    expected = read_image(path)
    assert expected.shape == ((17, 11, 3) if "turned" in name else (11, 17, 3))
    assert np.array_equal(read_image(str(path)), expected)
    assert np.array_equal(read_image(path.read_bytes()), expected)
    with path.open("rb") as file:
        assert np.array_equal(read_image(file), expected)
    with Image.open(path) as image:
        image.load()  # upon which Pillow itself turns a TIFF
        before = (image.mode, image.size, image.getexif().get(0x0112))
        assert np.array_equal(read_image(image), expected)
        assert (image.mode, image.size, image.getexif().get(0x0112)) == before, "it is left as it was"
        assert np.array_equal(read_image(image), expected)
    assert read_image(expected) is expected


def test_an_open_file_is_read_from_where_it_stands(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    stream = io.BytesIO(b"header" + (tmp_path / "a.png").read_bytes())
    stream.seek(6)
    assert np.array_equal(read_image(stream), NOISE)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"no picture", "the content given is not an image"),
        (io.StringIO("text"), "got one that gives str; open it with mode 'rb'"),
        (5, "got int"),
        (NOISE[..., 0], r"expected an image as a \(height, width, 3\) uint8 RGB array, got uint8 \(11, 17\)"),
        (NOISE / 255, r"got float64 \(11, 17, 3\)"),
        (Image.new("F", (3, 5)), "the Pillow image holds floating-point values"),
    ],
)
def test_what_is_no_image(source, message):
    with pytest.raises(DataError, match=message):
        read_image(source)


def test_content_that_is_cut_short(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="the content given is damaged or cut short"):
        read_image((tmp_path / "a.png").read_bytes()[:-200])


def test_not_an_image_missing_and_folder(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"text\.jpg is not an image"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"no file at .*gone\.png; check the path"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="expected an image file, came the folder"):
        read_image(tmp_path)


def test_float_image_is_refused(tmp_path):
    Image.fromarray(np.ones((3, 5), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="floating-point"):
        read_image(tmp_path / "a.tif")


def test_label_keeps_palette_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 7, 255]], dtype=np.uint8)).convert("P")
    image = Image.frombytes("P", (3, 1), bytes([0, 7, 255]))
    image.putpalette([200] * 768)
    image.save(tmp_path / "a.png")
    assert read_label(tmp_path / "a.png").tolist() == [[0, 7, 255]]


def test_label_of_one_bit_and_sixteen_bits(tmp_path):
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "one.png")
    assert read_label(tmp_path / "one.png").tolist() == [[0, 1]]
    Image.fromarray(np.array([[3, 255]], dtype=np.uint16)).save(tmp_path / "wide.png")
    assert read_label(tmp_path / "wide.png").tolist() == [[3, 255]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_label_of_sixteen_bits_keeps_every_id(tmp_path, name):
    Image.fromarray(np.array([[0, 256, 846, 65535]], dtype=np.uint16)).save(tmp_path / name)
    label = read_label(tmp_path / name)
    assert label.dtype == np.uint16
    assert label.tolist() == [[0, 256, 846, 65535]]


def test_label_of_more_than_sixteen_bits_is_refused(tmp_path):
    Image.fromarray(np.array([[3, 65536]], dtype=np.int32)).save(tmp_path / "high.tif")
    with pytest.raises(DataError, match=r"high\.tif: ids from 3 to 65536, but a label map holds 0 to 65535"):
        read_label(tmp_path / "high.tif")


@pytest.mark.parametrize(("bits", "row", "expected"), [(4, b"\x1f", [1, 15]), (2, b"\x1b", [0, 1, 2, 3])])
def test_label_of_few_grey_bits_is_not_stretched(tmp_path, bits, row, expected):
    def chunk(kind, content):
        code = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", code)

    header = struct.pack(">IIBBBBB", len(expected), 1, bits, 0, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(png)
    assert read_label(tmp_path / "a.png").tolist() == [expected]


def test_colour_and_jpeg_labels_are_refused(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"rgb\.png: expected one channel of class ids, came a colour image"):
        read_label(tmp_path / "rgb.png")
    Image.new("L", (4, 3)).save(tmp_path / "grey.jpg")
    with pytest.raises(DataError, match="store label maps as PNG"):
        read_label(tmp_path / "grey.jpg")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_masks_by_id(tmp_path, kind):
    high = 255 if kind == np.uint8 else 65535
    ids = np.array([[0, 3, 3], [high, 0, 3]], dtype=kind)
    Image.fromarray(ids).save(tmp_path / "a.png")
    masks = read_masks(tmp_path / "a.png", (2, 3))
    assert masks.dtype == bool
    assert masks.tolist() == [(ids == 3).tolist(), (ids == high).tolist()]


def test_palette_masks_count_by_index_and_no_mask_is_none(tmp_path):
    image = Image.frombytes("P", (3, 1), bytes([0, 7, 255]))
    image.putpalette([200] * 768)
    image.save(tmp_path / "a.png")
    assert read_masks(tmp_path / "a.png", (1, 3)).tolist() == [[[False, True, False]], [[False, False, True]]]
    Image.new("L", (5, 3)).save(tmp_path / "none.png")
    assert read_masks(tmp_path / "none.png", (3, 5)).shape == (0, 3, 5)


def test_masks_that_cannot_be_used(tmp_path, monkeypatch):
    Image.new("L", (5, 3), 9).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png has 3x5 pixels \(height x width\), the photograph, .* 5x3"):
        read_masks(tmp_path / "a.png", (5, 3))
    Image.new("RGB", (5, 3)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"mask file .*rgb\.png: expected one channel of mask ids"):
        read_masks(tmp_path / "rgb.png", (3, 5))
    with pytest.raises(DataError, match="no file at"):
        read_masks(tmp_path / "gone.png", (3, 5))
    monkeypatch.setattr("lexiseg.data.io._MASK_BYTES", 14)
    with pytest.raises(DataError, match="1 masks of 3x5 pixels take more than"):
        read_masks(tmp_path / "a.png", (3, 5))


def test_an_image_of_more_pixels_than_pillow_opens(tmp_path, monkeypatch):
    Image.new("RGB", (50, 60)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"a\.png has more pixels than Pillow opens .*; crop or shrink it"):
        read_image(tmp_path / "a.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, image_size, read_label):
        with pytest.raises(DataError, match="pipe.png is a pipe or a device; store the image first"):
            read(tmp_path / "pipe.png")


def test_garbled_exif_turns_nothing(tmp_path):
    array = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    Image.fromarray(array).save(tmp_path / "photo.png", exif=b"Exif\0\0garbage")
    assert (read_image(tmp_path / "photo.png") == array).all()
    assert image_size(tmp_path / "photo.png") == (5, 7)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 11\n%%EndComments\nshowpage\n%%EOF\n"
"""Which Pillow takes for an image, and hands to Ghostscript."""


def _png(height, width):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_strangers_photograph_is_read_in_bounds():
    content = _png(7, 11)
    read = read_content(content, most_pixels=77)
    assert (read == read_image(content)).all()
    with pytest.raises(DataError, match="7x11 pixels .* at most 76"):
        read_content(content, most_pixels=76)


def test_of_strangers_no_format_is_tried_that_runs_programs():
    with pytest.raises(DataError, match="not an image"):
        read_content(EPS)
