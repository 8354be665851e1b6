import warnings

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.image_folder import find_images
from lexiseg.data.label_regions import RegionMap
from lexiseg.data.toy.world import TOY_CLASSES, ToyWorld
from lexiseg.data.unlabelled import ForgottenLabels, UnlabelledImages
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.types import Sample


def save(path, height=11, width=17):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 77, np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    for name in ("b.png", "a/c.JPG", "a/d/e.webp", ".hidden/f.png", "a/.g.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


class Source:
    """Gives every image the same bands as masks; has no file for some."""

    def __init__(self, count=2, size=(11, 17), unknown=()):
        self.count, self.size, self.unknown = count, size, unknown

    def find(self, image):
        return None if image.name in self.unknown else image.with_suffix(".json")

    def read(self, image, size):
        rows = np.arange(self.size[0])[:, None] * self.count // self.size[0]
        return RegionMap(np.broadcast_to(rows + min(1, self.count), self.size), self.count)


def test_folder_is_searched_with_its_subfolders(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = UnlabelledImages(images=photos, masks=Source())
    assert images.names == ("a/c.JPG", "a/d/e.webp", "b.png")
    assert len(images) == 3
    item = images[2]
    assert item.name == "b.png"
    assert item.image.shape == (11, 17, 3)
    assert len(item.masks) == 2


def test_list_of_images_keeps_its_order(photos):
    images = UnlabelledImages(images=[photos / "b.png", str(photos / "a/c.JPG")], masks=Source())
    assert [path.name for path in images.paths] == ["b.png", "c.JPG"]
    assert images[1].name.endswith("a/c.JPG")


def test_image_whose_file_holds_no_mask_stays(photos):
    images = UnlabelledImages(images=photos, masks=Source(count=0))
    assert len(images) == 3
    assert len(images[0].masks) == 0


def test_images_without_a_mask_file_are_left_out_and_counted(photos):
    with pytest.warns(UserWarning, match=r"1 of 3 images have no mask file .*c.JPG.*masks build") as caught:
        images = UnlabelledImages(images=photos, masks=Source(unknown=("c.JPG",)))
    assert len(caught) == 1
    assert images.names == ("a/d/e.webp", "b.png")
    assert [path.name for path in images.skipped] == ["c.JPG"]
    assert images[1].name == "b.png"
    with pytest.raises(DataError, match=r"none of 3 images has a mask file .*make masks first"):
        UnlabelledImages(images=photos, masks=Source(unknown=("b.png", "c.JPG", "e.webp")))


def test_masks_of_the_cache_and_of_another_image(photos):
    store = MaskStore()
    bands = np.zeros((2, 11, 17), bool)
    bands[0, :4] = bands[1, :, 9:] = True
    store.write(photos / "b.png", MaskSet.from_masks(bands), {})
    images = UnlabelledImages(images=[photos / "b.png"], masks=store)
    assert np.array_equal(images[0].masks.sample(np.arange(11), np.arange(17)), bands)
    save(photos / "b.png", 17, 11)
    with pytest.raises(DataError, match=r"b.png.masks.json holds masks of 11x17 .* but .*b.png is 17x11"):
        images[0]


def test_photograph_is_turned_upright_before_sizes_are_compared(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((17, 11, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    item = UnlabelledImages(images=tmp_path, masks=Source())[0]
    assert item.image.shape == (11, 17, 3)


def test_masks_of_another_size_are_never_used(photos):
    images = UnlabelledImages(images=photos, masks=Source(size=(17, 11)))
    with pytest.raises(DataError, match=r"image a/c.JPG is 11x17 .*, but its masks are 17x11; make them"):
        images[0]


def test_nothing_to_read_is_an_error(tmp_path):
    (tmp_path / "masks.json").write_text("{}")
    with pytest.raises(DataError, match=r"no image in .* or its subfolders; expected files that end in .jpg"):
        UnlabelledImages(images=tmp_path, masks=Source())
    with pytest.raises(DataError, match=r"expected a folder of images, found none at .*nowhere"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="the list of images is empty"):
        UnlabelledImages(images=[], masks=Source())


def test_damaged_image_is_named(photos):
    (photos / "b.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match="b.png"):
        UnlabelledImages(images=photos, masks=Source())[2]


def test_toy_scenes_without_names():
    world = ToyWorld(partition="train", length=7, image_size=(64, 96), seed=2)
    forgotten = ForgottenLabels(dataset=world)
    assert len(forgotten) == 7
    for index in range(7):
        item, sample = forgotten[index], world[index]
        masks = item.masks.sample(np.arange(64), np.arange(96))
        assert np.array_equal(item.image, sample.image)
        assert item.name == sample.name
        assert (masks.sum(0) == 1).all()  # every pixel has a class here, so exactly one mask
        assert all(len(np.unique(sample.label[mask])) == 1 for mask in masks)
        assert len(masks) >= len(np.unique(sample.label)) >= 2
        whole = ForgottenLabels(dataset=world, regions="class")[index].masks
        assert len(whole) == len(np.unique(sample.label)) < len(TOY_CLASSES)


def test_masks_made_from_the_image_see_no_label():
    class World:
        classes = ("a", "b")

        def __len__(self):
            return 1

        def __getitem__(self, index):
            image = np.zeros((3, 5, 3), np.uint8)
            image[:, 2:] = 200
            return Sample(image, np.full((3, 5), 255, np.uint8), "one")

    def bright(image):
        return MaskSet.from_masks((image[..., 0] > 9)[None])

    made = ForgottenLabels(dataset=World(), make_masks=bright)[0].masks
    assert made.sample(np.arange(3), np.arange(5)).astype(int).tolist() == [[[0, 0, 1, 1, 1]] * 3]
    assert len(ForgottenLabels(dataset=World())[0].masks) == 0


def test_unknown_regions():
    with pytest.raises(ConfigError, match="regions: expected 'component' or 'class', got 'objects'"):
        ForgottenLabels(dataset=ToyWorld(partition="train", length=1), regions="objects")
