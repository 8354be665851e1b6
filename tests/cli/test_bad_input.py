"""Whatever words and files a user brings: a right answer or one clear message (toy CLIP, training-free methods)."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lexiseg.cli.main import main

METHODS = ("sclip", "tg-clip")
TWO = "red circle, blue square"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def scene():
    """Red with a blue lower right quarter, H != W."""
    array = np.full((40, 72, 3), (205, 42, 40), dtype=np.uint8)
    array[20:, 36:] = (48, 78, 196)
    return array


@pytest.fixture
def predict(capsys, tmp_path):
    """Runs the command; returns status, everything printed in one line, and the folder of results."""

    def run(path, *flags, method="sclip", templates="single"):
        chosen = [
            "--clip",
            "toy",
            "--method",
            method,
            "--templates",
            templates,
            "--out",
            str(tmp_path / "out"),
        ]
        status = main(["predict", str(path), *map(str, flags), *chosen])
        captured = capsys.readouterr()
        printed = " ".join((captured.out + captured.err).split())
        assert "Traceback" not in printed
        return status, printed, tmp_path / "out"

    return run


@pytest.fixture
def photo(tmp_path, scene):
    Image.fromarray(scene).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "the vocabulary is empty; give at least one class name"),
        ("  ", "the vocabulary is empty"),
        (",", "a class name is empty; look for two commas in a row"),
        ("red circle, Red Circle", "named twice: red circle; every class and synonym may stand once"),
        ("red circle; bricks, bricks", "named twice: bricks"),
    ],
)
def test_no_class_and_a_class_twice(predict, photo, words, message):
    status, printed, out = predict(photo, "--classes", words)
    assert status == 2
    assert printed.startswith("lexiseg: ")
    assert message in printed
    assert not out.exists()


def test_an_empty_file_of_classes(predict, photo, tmp_path):
    (tmp_path / "words.txt").write_text("\n \n")
    status, printed, _ = predict(photo, "--classes-file", tmp_path / "words.txt")
    assert (status, printed[:35]) == (2, "lexiseg: the vocabulary is empty; g")


@pytest.mark.one_in(2)
@pytest.mark.parametrize("method", METHODS)
def test_one_class_takes_everything(predict, photo, method):
    status, printed, out = predict(photo, "--classes", "red circle", method=method)
    assert status == 0
    assert "red circle 100.0 %" in printed
    assert json.loads((out / "photo.json").read_text())["found"][0]["mean_score"] == 1.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("word", ["circle" * 83 + "ab", "red circle " * 45 + "tiles", "é" * 500])
def test_a_word_of_500_characters_that_is_too_long(predict, photo, method, word):
    assert len(word) == 500
    status, printed, out = predict(
        photo, "--classes", f"bricks, {word}", method=method, templates="imagenet80"
    )
    assert status == 2
    assert printed.startswith(f"lexiseg: the class name '{word[:40].strip()}")
    assert "(500 characters)" in printed
    assert "CLIP reads at most 77; shorten the name" in printed
    assert "warning" not in printed, "one message"
    assert not out.exists()


def test_a_word_with_braces_and_markup_is_a_word(predict, photo):
    status, printed, out = predict(photo, "--classes", "red {} [bold]{circle}")
    assert status == 0
    assert "red {} [bold]{circle} 100.0 %" in printed
    content = json.loads((out / "photo.json").read_text())
    assert content["id2label"] == {"0": "red {} [bold]{circle}"}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_ten_thousand_words(predict, tmp_path, method):
    Image.new("RGB", (16, 24), "red").save(tmp_path / "photo.png")
    words = [f"thing {index}" for index in range(9_999)]
    (tmp_path / "words.txt").write_text("\n".join([*words, "red circle"]))
    status, printed, out = predict(
        tmp_path / "photo.png", "--classes-file", tmp_path / "words.txt", method=method, templates="plain"
    )
    assert status == 0
    assert "thing 11, and 9987 more; its answer for that means nothing" in printed
    content = json.loads((out / "photo.json").read_text())
    assert len(content["id2label"]) == 10_000
    with Image.open(out / "photo_labels.png") as image:
        labels = np.asarray(image)
        assert image.mode.startswith("I")  # 16 bits
    assert labels.shape == (24, 16)
    assert sorted(np.unique(labels).tolist()) == sorted(found["id"] for found in content["found"])
    with Image.open(out / "photo_overlay.png") as image:
        assert image.width < 2000


def save_sixteen_bit_rgb(array, path):
    """A PNG of 16 bits per channel, which Pillow reads but does not write."""

    def chunk(kind, content):
        code = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", code)

    height, width = array.shape[:2]
    rows = (array.astype(np.uint16) * 257).astype(">u2")
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(content))
        + chunk(b"IEND", b"")
    )


def save_rotated(array, path):
    """As a camera stores it that was turned: rotate by 90 degrees clockwise to see it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(array).copy()).save(path, exif=exif)


def save_palette_with_transparency(array, path):
    picture = Image.fromarray(array).quantize(4)
    picture.save(path, transparency=3)


FORMS = {
    "rgba.png": lambda array, path: Image.fromarray(array).convert("RGBA").save(path),
    "palette.png": lambda array, path: Image.fromarray(array).quantize(4).save(path),
    "palette_alpha.png": save_palette_with_transparency,
    "sixteen.png": save_sixteen_bit_rgb,
    "rotated.png": save_rotated,
    "animated.gif": lambda array, path: Image.fromarray(array).save(
        path, save_all=True, append_images=[Image.new("RGB", (72, 40), "green")]
    ),
    "lossless.webp": lambda array, path: Image.fromarray(array).save(path, lossless=True),
    "bitmap.bmp": lambda array, path: Image.fromarray(array).save(path),
    "tiles.tif": lambda array, path: Image.fromarray(array).save(path, compression="tiff_lzw"),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_form_of_one_photograph_gives_the_same_labels(predict, photo, scene, tmp_path, method):
    folder = tmp_path / "forms"
    folder.mkdir()
    for name, save in FORMS.items():
        save(scene, folder / name)
    assert predict(photo, "--classes", TWO, "--scores", method=method)[0] == 0
    status, printed, out = predict(folder, "--classes", TWO, "--scores", method=method)
    assert status == 0, printed
    assert f"{len(FORMS)} of {len(FORMS)} photographs segmented" in printed
    labels, scores = (np.asarray(Image.open(out / f"photo_{kind}.png")) for kind in ("labels", "scores"))
    assert labels.shape == scores.shape == (40, 72)
    assert (scores != scores[::-1]).any(), "a picture that looks the same upside down would show nothing"
    assert (scores != scores[:, ::-1]).any()
    for name in FORMS:
        stem = name.partition(".")[0]
        for kind, expected in (("labels", labels), ("scores", scores)):
            found = np.asarray(Image.open(out / f"{stem}_{kind}.png"))
            assert found.shape == expected.shape, name
            assert (found == expected).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_grey_forms_give_the_same_labels(predict, scene, tmp_path, method):
    grey = np.asarray(Image.fromarray(scene).convert("L"))
    folder = tmp_path / "greys"
    folder.mkdir()
    Image.fromarray(grey).save(folder / "eight.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.fromarray(grey).convert("LA").save(folder / "alpha.png")
    Image.fromarray(grey.repeat(3).reshape(40, 72, 3)).save(folder / "colour.png")
    status, printed, out = predict(folder, "--classes", TWO, "--scores", method=method)
    assert status == 0, printed
    for kind in ("labels", "scores"):
        maps = [np.asarray(Image.open(path)) for path in sorted(out.glob(f"*_{kind}.png"))]
        assert len(maps) == 4
        assert all(found.shape == (40, 72) and (found == maps[0]).all() for found in maps)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(8, 8), (1, 1), (5, 60)])
def test_tiny_and_thin_images(predict, tmp_path, method, size):
    Image.new("RGB", size[::-1], (205, 42, 40)).save(tmp_path / "tiny.png")
    status, printed, out = predict(tmp_path / "tiny.png", "--classes", TWO, method=method)
    assert status == 0, printed
    with Image.open(out / "tiny_labels.png") as image:
        assert image.size == size[::-1]


def test_files_that_are_no_images(predict, photo, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    photo.rename(folder / "good.png")
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:60])
    status, printed, out = predict(folder, "--classes", TWO)
    assert status == 1
    assert "1 of 4 photographs segmented" in printed
    for name in ("text.jpg", "empty.png"):
        assert f"{name} is not an image that Pillow can read" in printed
    assert "cut.png is damaged or cut short" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "good.json",
        "good_labels.png",
        "good_overlay.png",
    ]


def test_more_pixels_than_pillow_opens(predict, photo, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    status, printed, _ = predict(photo, "--classes", TWO)
    assert status == 1
    assert "photo.png has more pixels than Pillow opens" in printed
    assert "crop or shrink it" in printed


@pytest.mark.slow
def test_a_photograph_of_12000_by_9000_pixels(predict, tmp_path):
    picture = Image.new("RGB", (12000, 9000), (205, 42, 40))
    picture.save(tmp_path / "large.jpg", quality=50)
    del picture
    status, printed, out = predict(tmp_path / "large.jpg", "--classes", TWO, "--no-overlay")
    assert status == 0, printed
    content = json.loads((out / "large.json").read_text())
    assert (content["height"], content["width"]) == (9000, 12000)
    assert sum(found["pixels"] for found in content["found"]) == 9000 * 12000
    with Image.open(out / "large_labels.png") as image:
        assert image.size == (12000, 9000)
