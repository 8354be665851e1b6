"""Every kind of file, read and segmented: right size, right way up, right colours."""

import numpy as np
import pytest
from PIL import Image

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.io import read_image
from lexiseg.errors import DataError
from lexiseg.inference.protocol import InferenceProtocol
from segmenter_fakes import ColourModel, colour_embeddings, make_segmenter

WORDS = "red, green, blue, white, black"


@pytest.fixture
def segmenter():
    vocabulary = Vocabulary.from_text(WORDS)
    return make_segmenter(
        ColourModel(8), vocabulary, colour_embeddings(vocabulary), InferenceProtocol(short_side=24)
    )


def picture(height=20, width=36):
    """Red, with a blue lower right corner."""
    array = np.zeros((height, width, 3), dtype=np.uint8)
    array[..., 0] = 255
    array[height // 2 :, width // 2 :] = (0, 0, 255)
    return Image.fromarray(array)


def corners(result):
    height, width = result.size
    points = ((2, 2), (2, width - 3), (height - 3, 2), (height - 3, width - 3))
    return [result.id2label[int(result.labels[y, x])] for y, x in points]


EXPECTED = ["red", "red", "red", "blue"]


@pytest.mark.parametrize(
    "make",
    [
        lambda image, path: image.save(path.with_suffix(".png")),
        lambda image, path: image.save(path.with_suffix(".bmp")),
        lambda image, path: image.save(path.with_suffix(".jpg"), quality=95),
        lambda image, path: image.quantize(4).save(path.with_suffix(".png")),
        lambda image, path: image.convert("RGBA").save(path.with_suffix(".png")),
        lambda image, path: image.save(
            path.with_suffix(".gif"), save_all=True, append_images=[Image.new("RGB", image.size, "green")]
        ),
    ],
    ids=["png", "bmp", "jpeg", "palette", "rgba", "animated gif"],
)
def test_file_kinds(segmenter, tmp_path, make):
    make(picture(), tmp_path / "photo")
    result = segmenter.segment(read_image(next(tmp_path.iterdir())))
    assert result.size == (20, 36)
    assert corners(result) == EXPECTED


def test_exif_orientation_is_applied(segmenter, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    picture().save(tmp_path / "photo.png", exif=exif)
    result = segmenter.segment(read_image(tmp_path / "photo.png"))
    assert result.size == (36, 20)
    assert corners(result) == ["red", "red", "blue", "red"]


@pytest.mark.parametrize("sixteen_bit", [False, True])
def test_grey_files(segmenter, tmp_path, sixteen_bit):
    array = np.zeros((20, 36), dtype=np.uint16 if sixteen_bit else np.uint8)
    array[10:] = 65535 if sixteen_bit else 255
    Image.fromarray(array).save(tmp_path / "photo.png")
    result = segmenter.segment(read_image(tmp_path / "photo.png"))
    assert corners(result) == ["black", "black", "white", "white"]


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (1, 40), (37, 5)])
def test_tiny_images(segmenter, size):
    result = segmenter.segment(np.full((*size, 3), (255, 0, 0), dtype=np.uint8))
    assert result.size == size
    assert result.areas == {"red": 1.0}


def test_a_file_that_is_no_image(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"not an image at all")
    with pytest.raises(DataError, match="not an image"):
        read_image(tmp_path / "photo.jpg")
