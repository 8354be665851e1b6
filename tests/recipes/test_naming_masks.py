"""Where the masks of ``eval masks=`` come from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.datasets.folder import FolderDataset
from lexiseg.data.toy.world import ToyWorld
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.given_masks import ON_THE_SPOT
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.recipes.naming_masks import open_masks


@pytest.fixture
def labelled(tmp_path):
    """Two labelled photographs."""
    draw = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for name in "ab":
        Image.fromarray(draw.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(
            tmp_path / f"images/{name}.jpg"
        )
        Image.fromarray(draw.integers(0, 2, (16, 24), dtype=np.uint8)).save(tmp_path / f"labels/{name}.png")
    return FolderDataset(images=tmp_path / "images", masks=tmp_path / "labels", classes=["cat", "dog"])


def given(height=16, width=24):
    masks = np.zeros((2, height, width), bool)
    masks[0, :4], masks[1, :, 20:] = True, True
    return masks


def test_none_and_ground_truth(labelled):
    assert open_masks(None) is None
    source = open_masks("ground_truth")
    assert source.told == {"source": "ground_truth"}
    sample = labelled[0]
    assert (source.masks(labelled, 0, sample) == np.stack([sample.label == 0, sample.label == 1])).all()


def test_superpixels_are_made_on_the_spot(labelled):
    source = open_masks("superpixels")
    masks = source.masks(labelled, 1, labelled[1])
    assert masks.shape[1:] == (16, 24)
    assert masks.any(0).all()
    assert (source.told["source"], source.told["settings"]["regions"]) == ("superpixels", (48,))


def test_a_folder_that_masks_build_wrote(labelled, tmp_path):
    store = MaskStore(tmp_path / "built", tmp_path / "images")
    for pair in labelled.pairs:
        store.write(pair.image, MaskSet.from_masks(given()), {})
    source = open_masks(str(tmp_path / "built"))
    assert source.told["source"] == str(tmp_path / "built")
    assert (source.masks(labelled, 1, labelled[1]) == given()).all()


def test_masks_that_are_made_anew_are_told_apart(tmp_path):
    def told():
        return open_masks(str(tmp_path)).told

    store = MaskStore(tmp_path, Path("photos"))
    store.write(Path("photos/deep/a.jpg"), MaskSet.from_masks(given()), {})
    before = told()
    (tmp_path / "notes.txt").write_text("no mask")
    assert told() == before
    store.write(Path("photos/deep/a.jpg"), MaskSet.from_masks(given()[:1]), {})
    assert told() != before


def test_the_common_folder_is_looked_for_once(labelled, tmp_path):
    store = MaskStore(tmp_path / "built", tmp_path / "images")
    for pair in labelled.pairs:
        store.write(pair.image, MaskSet.from_masks(given()), {})
    walked = []

    class Pairs(tuple):
        def __iter__(self):
            walked.append(len(self))
            return super().__iter__()

    labelled.pairs = Pairs(labelled.pairs)
    source = open_masks(str(tmp_path / "built"))
    for index in range(2):
        source.masks(labelled, index, labelled[index])
    assert walked == [2]


def test_a_folder_of_ids_for_a_data_set_without_files(tmp_path):
    world = ToyWorld(partition="val", length=1, image_size=(16, 24))
    ids = np.zeros((16, 24), np.uint8)
    ids[:3], ids[5:9, :7] = 4, 200
    Image.fromarray(ids).save(tmp_path / f"{world[0].name}.png")
    masks = open_masks(str(tmp_path)).masks(world, 0, world[0])
    assert masks.sum((1, 2)).tolist() == [72, 28]


def test_subfolders_are_mirrored(tmp_path):
    """As in Cityscapes: photographs lie in a folder for each town."""

    class Towns:
        def __init__(self, images):
            self.pairs = [type("Pair", (), {"image": image}) for image in images]

    images = [tmp_path / "photos" / town / "x.jpg" for town in ("bonn", "ulm")]
    for shift, image in enumerate(images):
        image.parent.mkdir(parents=True)
        Image.new("RGB", (24, 16)).save(image)
        store = MaskStore(tmp_path / "built", tmp_path / "photos")
        store.write(image, MaskSet.from_masks(np.roll(given(), shift, axis=1)), {})
    sample = ToyWorld(partition="val", length=1, image_size=(16, 24))[0]
    found = open_masks(str(tmp_path / "built")).masks(Towns(images), 1, sample)
    assert (found == np.roll(given(), 1, axis=1)).all()


def test_mistakes(labelled, tmp_path):
    for wrong in ("typo", "regions", "", 3, ["superpixels"], "x" * 5000, True):
        with pytest.raises(
            ConfigError, match=f"masks: expected null, ground_truth, {', '.join(ON_THE_SPOT)}, or a folder"
        ):
            open_masks(wrong)
    source = open_masks(str(tmp_path))
    with pytest.raises(DataError, match=r"no file at .*a.png; check the path. Nor is there a.jpg.masks.json"):
        source.masks(labelled, 0, labelled[0])
    Image.fromarray(np.ones((16, 23), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(
        DataError, match=r"mask file .*a.png has 16x23 pixels \(height x width\), the photograph"
    ):
        source.masks(labelled, 0, labelled[0])
