"""Masks for photographs from Python: files of ids, what a build wrote, superpixels."""

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import ConfigError, DataError
from lexiseg.inference import given_masks
from lexiseg.inference.given_masks import GivenMasks, MaskDoor
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.recipes.photographs import Photograph


@pytest.fixture
def photo(tmp_path):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, 8:] = (0, 0, 255)
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "a.jpg"
    Image.fromarray(pixels).save(path)
    return Photograph(path, "a", pixels)


def test_a_file_of_ids(photo, tmp_path):
    ids = np.zeros((16, 24), np.uint8)
    ids[:3], ids[5:9, :7] = 4, 200
    Image.fromarray(ids).save(tmp_path / "a.png")
    masks, source = GivenMasks(tmp_path).read(photo)
    assert source == str(tmp_path / "a.png")
    assert sorted(masks.sum((1, 2)).tolist()) == [28, 72]


def test_what_a_build_wrote(photo, tmp_path):
    arrays = np.zeros((2, 16, 24), bool)
    arrays[0, :4], arrays[1, :, 20:] = True, True
    store = MaskStore(tmp_path / "built", photo.path.parent)
    store.write(photo.path, MaskSet.from_masks(arrays), {})
    masks, source = GivenMasks(str(tmp_path / "built")).read(photo)
    assert source.endswith("a.jpg.masks.json")
    assert (masks == arrays).all()


def test_superpixels_cover_the_photograph(photo):
    masks, source = GivenMasks("superpixels").read(photo)
    assert source == "superpixels"
    assert masks.shape[1:] == (16, 24)
    assert masks.any(0).all()


def test_other_providers_are_loaded_for_the_first_photograph(photo, monkeypatch):
    asked = []
    halves = np.zeros((1, 16, 24), dtype=bool)
    halves[:, :, 7:] = True

    def on_the_spot(name, device):
        asked.append((name, device))
        return lambda pixels: MaskSet.from_masks(halves)

    monkeypatch.setattr(given_masks, "on_the_spot", on_the_spot)
    masks = GivenMasks("normalized_cut", "cpu")
    assert not asked
    assert all((masks.read(photo)[0] == halves).all() for _ in range(2))
    assert asked == [("normalized_cut", "cpu")]
    assert masks.read(photo)[1] == "normalized_cut"


def test_mistakes(photo, tmp_path):
    with pytest.raises(ConfigError, match="--masks: expected a folder holding STEM.png"):
        GivenMasks(tmp_path / "gone")
    with pytest.raises(DataError, match=r"no file at .*a.png; check the path. Nor is there a.jpg.masks.json"):
        GivenMasks(tmp_path).read(photo)


def test_every_form_of_masks_from_python(photo, tmp_path):
    ids = np.zeros((16, 24), np.uint8)
    ids[:3], ids[5:9, :7] = 4, 200
    Image.fromarray(ids).save(tmp_path / "a.png")
    given, door = np.stack([ids == 4, ids == 200]), MaskDoor("cpu")
    assert door.arrays(given, photo.pixels) is given
    assert (door.arrays(tmp_path, photo.pixels, photo.path) == given).all()
    assert (door.arrays(str(tmp_path), photo.pixels, str(photo.path)) == given).all()
    named = door.arrays("superpixels", photo.pixels)
    assert (named == GivenMasks("superpixels").read(photo)[0]).all()
    assert (door.arrays(lambda pixels: MaskSet.from_masks(given), photo.pixels) == given).all()
    with pytest.raises(
        ConfigError, match="found by a photograph's path; give the path in place of its pixels"
    ):
        door.arrays(tmp_path, photo.pixels, photo.pixels)
    with pytest.raises(
        ConfigError, match=r"expected an \(M, H, W\) array, a folder, one of superpixels, .*; got int"
    ):
        door.arrays(3, photo.pixels)


def test_a_provider_that_is_named_is_loaded_once(photo, monkeypatch):
    asked = []

    def on_the_spot(name, device):
        asked.append((name, device))
        return lambda pixels: MaskSet.from_masks(np.ones((1, 16, 24), dtype=bool))

    monkeypatch.setattr(given_masks, "on_the_spot", on_the_spot)
    door = MaskDoor("cpu")
    for _ in range(2):
        door.arrays("sam", photo.pixels)
    assert asked == [("sam", "cpu")]
