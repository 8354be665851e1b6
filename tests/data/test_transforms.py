import numpy as np
import pytest
import torch

from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.data.transforms import (
    CROP_TRIES,
    MEAN_COLOUR,
    Pad,
    PhotometricDistortion,
    RandomCrop,
    RandomFlip,
    RandomScale,
    RandomShortSide,
    train_recipe,
)
from lexiseg.errors import ConfigError
from lexiseg.inference.encoding import WindowEncoder
from lexiseg.inference.layout import lay_out
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.resize import resize_label


def sample(height=37, width=53, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, (height, width)).astype(np.uint8)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), label


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("short_side", [23, 37, 61])
def test_training_resizes_as_the_segmenter_does(short_side):
    """One value for both, byte for byte: smaller, as it is, and larger."""
    image, label = sample()
    base = (10**6, short_side)
    scaled, ids = RandomScale(base, (1.0, 1.0))(image, label, rng())
    layout = lay_out(label.shape, InferenceProtocol(short_side=short_side), patch_size=7)
    shown = WindowEncoder(None, window_batch=1, precision="float32").working(image, layout)
    assert (scaled == shown.permute(1, 2, 0).numpy()).all()
    assert (ids == resize_label(torch.from_numpy(label), ids.shape).numpy()).all()


def test_short_sides_as_the_segmenter_shows_them():
    """Sizes of detectron2, byte for byte as `protocol=regions` resizes; labels of the pixels under the centres."""
    image, label = sample()
    heights = set()
    for seed in range(20):
        shown, ids = RandomShortSide((23, 41), 53)(image, label, rng(seed))
        protocol = InferenceProtocol(short_side=ids.shape[0], long_side=53, resize="pillow")
        layout = lay_out(label.shape, protocol, patch_size=7)
        encoder = WindowEncoder(None, window_batch=1, precision="float32", resize="pillow")
        assert (shown == encoder.working(image, layout).permute(1, 2, 0).numpy()).all()
        height, width = ids.shape
        rows, columns = ((np.arange(n) + 0.5) * old // n for n, old in ((height, 37), (width, 53)))
        assert (ids == label[rows.astype(int)[:, None], columns.astype(int)]).all()
        heights.add(ids.shape)
    assert heights == {(23, 33), (37, 53)}, "41 would make the longer side 59"


def test_a_recipe_of_short_sides_filled_with_grey():
    image, label = sample()
    recipe = train_recipe(
        base=[97, 41],
        short_sides=[29],
        crop=[43, 61],
        cat_max_ratio=1.0,
        flip=0.0,
        distort=False,
        fill=[128] * 3,
    )
    shown, ids = recipe(image, label, rng())
    assert shown.shape == (43, 61, 3)
    assert (shown[29:] == 128).all()
    assert (shown[:, 42:] == 128).all()
    assert (ids[29:] == 255).all()
    assert (ids[:29, :42] != 255).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("short_sides", []),
        ("short_sides", "640"),
        ("short_sides", [0]),
        ("short_sides", [1.5]),
        ("fill", [128, 128]),
        ("fill", [128, 128, 256]),
        ("fill", 128),
    ],
)
def test_sides_and_colours_that_are_none(key, value):
    with pytest.raises(ConfigError, match=f"{key} is "):
        train_recipe(**{key: value})


def test_random_scale_keeps_proportions_within_the_ratio():
    image, label = sample()
    heights = []
    for seed in range(40):
        scaled, ids = RandomScale((400, 37), (0.5, 2.0))(image, label, rng(seed))
        assert scaled.shape[:2] == ids.shape
        assert ids.shape[1] == pytest.approx(ids.shape[0] * 53 / 37, abs=1.5)
        heights.append(ids.shape[0])
    assert 18 <= min(heights) < 24
    assert 66 < max(heights) <= 74


def test_crop_takes_the_same_window_of_both():
    label = np.arange(37 * 53, dtype=np.int64).reshape(37, 53) % 251
    image = np.repeat(label[..., None], 3, axis=2).astype(np.uint8)
    cut, ids = RandomCrop((11, 60), 1.0)(image, label.astype(np.uint8), rng(3))
    assert ids.shape == (11, 53)
    assert (cut[..., 0] == ids).all()


def test_crop_avoids_windows_of_one_class():
    label = np.zeros((11, 200), dtype=np.uint8)
    label[:, 100:] = 1
    image = np.zeros((11, 200, 3), dtype=np.uint8)
    shares = [RandomCrop((11, 80), 0.75)(image, label, rng(seed))[1].mean() for seed in range(50)]
    free = [RandomCrop((11, 80), 1.0)(image, label, rng(seed))[1].mean() for seed in range(50)]
    # One draw is varied with probability 1/3, so about 1 in 90 samples still fails all eleven draws.
    assert sum(0.25 < share < 0.75 for share in shares) >= 47
    assert sum(0.25 < share < 0.75 for share in free) <= 30


def test_crop_does_not_count_ignored_pixels_and_gives_up_after_ten():
    class Counting(RandomCrop):
        draws = 0

        def _draw(self, shape, rng):
            Counting.draws += 1
            return super()._draw(shape, rng)

    label = np.full((11, 200), 255, dtype=np.uint8)
    label[:, ::7] = 3
    _, ids = Counting((11, 80), 0.75)(np.zeros((11, 200, 3), dtype=np.uint8), label, rng())
    assert Counting.draws == 1 + CROP_TRIES
    assert ids.shape == (11, 80)


def test_flip_mirrors_both_half_of_the_time():
    image, label = sample()
    flips = [RandomFlip()(image, label, rng(seed)) for seed in range(200)]
    mirrored = [bool((ids == label[:, ::-1]).all()) for _, ids in flips]
    assert 70 < sum(mirrored) < 130
    index = mirrored.index(True)
    assert (flips[index][0] == image[:, ::-1]).all()


def test_distortion_changes_colours_only():
    image, label = sample()
    changed = 0
    for seed in range(30):
        distorted, ids = PhotometricDistortion()(image, label, rng(seed))
        assert ids is label
        assert distorted.dtype == np.uint8
        changed += bool((distorted != image).any())
    assert 22 < changed < 30  # untouched with probability 1/16


def test_distortion_by_hand():
    grey = np.full((3, 5, 3), 100, dtype=np.uint8)
    label = np.zeros((3, 5), dtype=np.uint8)
    levels = [
        int(PhotometricDistortion(32, (1, 1), (1, 1), 0)(grey, label, rng(s))[0][0, 0, 0]) for s in range(99)
    ]
    assert 68 <= min(levels) < 75
    assert 125 < max(levels) <= 132
    doubled = {
        tuple(PhotometricDistortion(0, (2.0, 2.0), (1, 1), 0)(grey, label, rng(seed))[0][0, 0])
        for seed in range(20)
    }
    assert doubled == {(100,) * 3, (200,) * 3}
    red = np.array([[[200, 0, 0]]], dtype=np.uint8)
    hues = {
        tuple(PhotometricDistortion(0, (1, 1), (1, 1), 18)(red, label, rng(seed))[0][0, 0])
        for seed in range(60)
    }
    assert all(r == 200 and min(g, b) == 0 for r, g, b in hues)
    assert 100 < max(max(g, b) for _, g, b in hues) <= 125  # 36 degrees of 60 up to yellow: 0.6 x 200


def test_saturation_by_hand():
    pink = np.array([[[200, 100, 100]]], dtype=np.uint8)
    label = np.zeros((1, 1), dtype=np.uint8)
    pale = [
        PhotometricDistortion(0, (1, 1), (0.0, 0.0), 0)(pink, label, rng(s))[0][0, 0].tolist()
        for s in range(20)
    ]
    assert [200, 200, 200] in pale
    assert [200, 100, 100] in pale


def test_pad_with_mean_colour_and_ignore():
    image, label = sample(5, 7)
    padded, ids = Pad((11, 7))(image, label, rng())
    assert padded.shape == (11, 7, 3)
    assert (padded[:5] == image).all()
    assert (ids[:5] == label).all()
    assert set(ids[5:].ravel()) == {255}
    normalised = (padded[5:] / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    assert np.abs(normalised).max() < 0.009
    assert padded[6, 0].tolist() == list(MEAN_COLOUR)
    assert Pad((3, 3))(image, label, rng())[0] is image


def test_recipe_is_reproducible_leaves_its_input_alone_and_gives_one_size():
    image, label = sample(70, 90)
    before = image.copy(), label.copy()
    recipe = train_recipe(base=(200, 61), crop=(47, 59))
    results = [recipe(image, label, rng(seed)) for seed in range(20)]
    assert {result[1].shape for result in results} == {(47, 59)}
    again = recipe(image, label, rng(7))
    assert (again[0] == results[7][0]).all()
    assert (again[1] == results[7][1]).all()
    assert (results[7][0] != results[8][0]).any()
    assert (image == before[0]).all()
    assert (label == before[1]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flip": 2}, "flip is 2; expected a number from 0 to 1"),
        ({"flip": True}, "flip is True; expected a number from 0 to 1"),
        ({"cat_max_ratio": -1}, "cat_max_ratio is -1; expected a number from 0 to 1"),
        ({"base": "abc"}, "base is abc; expected two positive numbers"),
        ({"crop": [512]}, r"crop is \[512\]; expected two positive numbers"),
        ({"base": [0, 5]}, "base is"),
        ({"ratio": [2.0, 0.5]}, "smaller number first"),
    ],
)
def test_recipe_mistakes(arguments, message):
    with pytest.raises(ConfigError, match=message):
        train_recipe(**arguments)
