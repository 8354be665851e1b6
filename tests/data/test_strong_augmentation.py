import numpy as np
import pytest
from PIL import Image

from lexiseg.data.strong_augmentation import Hole, StrongAugmentation, turn_hue
from lexiseg.errors import ConfigError

OFF = {"jitter_probability": 0.0, "grey_probability": 0.0, "blur_probability": 0.0, "hole_side": (0, 0)}
STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def rng(seed=0):
    return np.random.default_rng(seed)


def noise(height=37, width=53, seed=0):
    return rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def only(**settings):
    return StrongAugmentation(**{**OFF, **settings})


def jitter(**widths):
    return only(jitter_probability=1.0, **{**STILL, **widths})


def test_nothing_switched_on_changes_nothing():
    image = noise()
    strong, hole = only()(image, rng())
    assert np.array_equal(strong, image)
    assert not hole.cells((37, 53), (5, 7)).any()
    assert np.array_equal(jitter()(image, rng())[0], image)


def test_input_stays_and_equal_seeds_give_equal_views():
    image = noise()
    before = image.copy()
    first, second, other = (StrongAugmentation()(image, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(image, before)
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]
    assert not np.array_equal(first[0], other[0])


def test_brightness_scales_every_level_alike():
    image = np.array([[[100] * 3, [40] * 3]], dtype=np.uint8)
    levels = [jitter(brightness=0.5)(image, rng(seed))[0][0, :, 0].tolist() for seed in range(60)]
    assert 50 <= min(level for level, _ in levels) < 56
    assert 144 < max(level for level, _ in levels) <= 150
    assert all(abs(dark - 0.4 * light) <= 1 for light, dark in levels)


def test_contrast_keeps_the_mean_and_scales_the_distance_to_it():
    image = np.array([[[140] * 3, [60] * 3]], dtype=np.uint8)
    pairs = [jitter(contrast=0.5)(image, rng(seed))[0][0, :, 0].astype(int) for seed in range(60)]
    assert all(abs(pair.sum() - 200) <= 1 for pair in pairs)
    spans = [pair[0] - pair[1] for pair in pairs]
    assert 40 <= min(spans) < 46
    assert 114 < max(spans) <= 120


def test_saturation_moves_colours_to_and_from_their_grey():
    image = np.array([[[120, 90, 90]]], dtype=np.uint8)  # grey 0.299 * 120 + 0.701 * 90 = 99
    pixels = [jitter(saturation=0.5)(image, rng(seed))[0][0, 0].astype(int) for seed in range(60)]
    reds, greens = [pixel[0] - 99 for pixel in pixels], [pixel[1] - 99 for pixel in pixels]
    assert min(reds) <= 12 < 30 <= max(reds) <= 32
    assert all(abs(red * -9 / 21 - green) <= 1.5 for red, green in zip(reds, greens, strict=True))


def test_hue_by_hand():
    red = Image.fromarray(np.array([[[200, 0, 0], [77, 77, 77]]], dtype=np.uint8))
    third = np.asarray(turn_hue(red, 1 / 3))[0]
    assert third[0, 1] == 200
    assert third[0, [0, 2]].max() <= 5  # 85 of 256 steps are a third to within 1/768
    assert third[1].tolist() == [77, 77, 77]
    quarter = jitter(hue=0.25)
    reds = [quarter(np.asarray(red), rng(seed))[0][0] for seed in range(60)]
    assert all(pixels[0].max() == 200 and pixels[1].tolist() == [77] * 3 for pixels in reds)
    assert not any(pixels[0][1] and pixels[0][2] for pixels in reds)
    # A quarter turn is 90 degrees: past yellow and past magenta, never to green or blue alone.
    assert min(pixels[0][0] for pixels in reds) < 130
    assert all(pixels[0][0] >= 95 for pixels in reds)


def test_jitter_goes_in_any_order():
    image = np.array([[[250, 120, 10], [30, 200, 90]]], dtype=np.uint8)

    class Still(StrongAugmentation):
        """The same factors in every order."""

        def orders(self):
            class Fixed:
                def __init__(self, seed):
                    self.order = rng(seed)

                def uniform(self, low, high):
                    return low

                def permutation(self, count):
                    return self.order.permutation(count)

            picture = Image.fromarray(image)
            return {np.asarray(self._jitter(picture, Fixed(seed))).tobytes() for seed in range(60)}

    assert len(Still().orders()) > 4


def test_grey_at_the_stated_rate():
    augment = only(grey_probability=0.2)
    views = [augment(noise(seed=seed), rng(seed))[0] for seed in range(300)]
    grey = [bool((view[..., 0] == view[..., 2]).all()) for view in views]
    assert 40 < sum(grey) < 80
    view = views[grey.index(True)]
    expected = noise(seed=grey.index(True)) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(view[..., 1] - expected).max() <= 1


def test_blur_keeps_flat_parts_and_measures_in_pixels_of_the_crop():
    step = np.zeros((11, 40, 3), dtype=np.uint8)
    step[:, 20:] = 200
    blurred = only(blur_probability=1.0, blur_sigma=(2, 2))(step, rng())[0][5, :, 0].astype(int)
    assert blurred[:10].max() == 0
    assert blurred[30:].min() == 200
    assert (np.diff(blurred) >= 0).all()
    assert 30 < blurred[19] < 100
    half = only(blur_probability=1.0, blur_sigma=(2, 2))(noise(), rng(), scale=0.5)[0]
    assert np.array_equal(half, only(blur_probability=1.0, blur_sigma=(1, 1))(noise(), rng())[0])


def test_hole_is_black_and_of_the_stated_sides():
    heights, widths = [], []
    for seed in range(80):
        image = np.full((100, 200, 3), 9, dtype=np.uint8)
        strong, hole = only(hole_side=(0.1, 0.5))(image, rng(seed))
        assert (strong[hole.window] == 0).all()
        heights.append(hole.rows[1] - hole.rows[0])
        widths.append(hole.columns[1] - hole.columns[0])
        assert int((strong == 0).sum()) == 3 * heights[-1] * widths[-1]
    assert 10 <= min(heights) < 14
    assert 46 < max(heights) <= 50
    assert 20 <= min(widths) < 28
    assert 92 < max(widths) <= 100
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.4  # each side is drawn on its own


def test_hole_in_cells_by_hand():
    hole = Hole(rows=(2, 5), columns=(0, 6))
    assert hole.cells((6, 10), (3, 5)).astype(int).tolist() == [
        [0, 0, 0, 0, 0],  # centre of row 0 is pixel 1, of row 1 pixel 3, of row 2 pixel 5
        [1, 1, 1, 0, 0],  # centres of columns: 1, 3, 5, 7, 9
        [0, 0, 0, 0, 0],
    ]
    exact = np.zeros((6, 10), dtype=bool)
    exact[hole.window] = True
    assert np.array_equal(hole.cells((6, 10), (6, 10)), exact)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jitter_probability": 1.5}, r"strong.jitter_probability is 1.5; expected a number from 0 to 1"),
        ({"hue": 0.6}, r"strong.hue is 0.6; expected a number from 0 to 0.5"),
        ({"brightness": "much"}, r"strong.brightness: expected a number, got 'much'"),
        (
            {"blur_sigma": (2, 1)},
            r"strong.blur_sigma is \(2.0, 1.0\); expected two numbers .* the smaller first",
        ),
        ({"hole_side": (0.1, 1.5)}, r"strong.hole_side is \(0.1, 1.5\); expected two numbers from 0 to 1"),
        ({"hole_side": 0.5}, r"strong.hole_side: expected a list of 2 numbers, got 0.5"),
        ({"blur_sigma": ["a", "b"]}, r"strong.blur_sigma: expected a list of 2 numbers, got \['a', 'b'\]"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        StrongAugmentation(**settings)
