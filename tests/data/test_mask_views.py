import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from lexiseg.data.mask_views import PAD_COLOUR, TwoViews, Window
from lexiseg.data.strong_augmentation import StrongAugmentation
from lexiseg.errors import ConfigError
from lexiseg.masks.mask_set import MaskSet

CALM = StrongAugmentation(jitter_probability=0, grey_probability=0, blur_probability=0)
WHOLE = StrongAugmentation(jitter_probability=0, grey_probability=0, blur_probability=0, hole_side=(0, 0))


def rng(seed=0):
    return np.random.default_rng(seed)


def mask_set(*masks):
    return MaskSet.from_masks(np.stack(masks))


def nothing(height, width):
    return MaskSet.from_runs((height, width), [])


def views(**settings):
    return TwoViews(
        **{"short_side": 61, "crop": 47, "size": 33, "mask_size": 11, "distort": False, **settings}
    )


def coordinates(height, width):
    """An image whose red grows along x and green along y, from 10 to 245; blue is 0."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.linspace(10, 245, width).round()
    image[..., 1] = np.linspace(10, 245, height).round()[:, None]
    return image


def test_window_equals_resizing_the_whole_and_cropping():
    image = rng().integers(0, 256, (83, 127, 3), dtype=np.uint8)
    for seed in range(20):
        window = TwoViews(short_side=61, crop=47, size=47).draw((83, 127), rng(seed))
        whole = np.asarray(Image.fromarray(image).resize((93, 61), Image.Resampling.BILINEAR))
        top, left = round(window.start[0] * 61 / 83), round(window.start[1] * 93 / 127)
        expected = whole[top : top + 47, left : left + 47]
        if window.flipped:
            expected = expected[:, ::-1]
        assert np.abs(window.show(image).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [(83, 127), (149, 71), (61, 61), (29, 211)])
@pytest.mark.parametrize("crop", [47, 89])  # the second is larger than the short side: padding
def test_masks_lie_where_the_image_does(size, crop):
    image = coordinates(*size)
    flips = 0
    for seed in range(25):
        for channel, level in ((0, 90), (0, 170), (1, 150)):
            # A cell may differ only within two pixels of the photograph, and two levels, of the threshold.
            unsure = 2 + 2 * 235 / size[1 - channel]
            out = views(crop=crop, strong=WHOLE)(image, mask_set(image[..., channel] > level), rng(seed))
            # The middle pixel of each 3x3 block of the view has its centre at the centre of the mask's cell.
            seen = out.weak[1::3, 1::3]
            filled = (seen != PAD_COLOUR).any(-1)
            shade = seen[..., channel].astype(int)
            mask = out.masks[0] if len(out.masks) else np.zeros((11, 11), bool)
            sure = filled & (abs(shade - level) >= unsure)
            assert np.array_equal(mask[sure], (shade > level)[sure])
            assert not mask[~filled].any()
            assert sure.sum() > 0.5 * filled.sum()
        row = seen[0, filled[0], 0]
        flips += bool(row[0] > row[-1])
    assert 4 < flips < 21


def test_padding_is_mean_colour_at_the_bottom_and_right():
    image = np.full((20, 50, 3), 250, dtype=np.uint8)
    out = TwoViews(short_side=20, crop=40, size=40, mask_size=40, distort=False, strong=WHOLE)(
        image, mask_set(np.ones((20, 50), bool)), rng()
    )
    assert (out.weak[:20] == 250).all()
    assert (out.weak[20:] == PAD_COLOUR).all()
    assert out.masks[0, :20].all()
    assert not out.masks[0, 20:].any()


def test_indices_by_hand():
    window = Window(start=(2.0, 1.0), extent=(4.0, 6.0), filled=(6, 6), canvas=6, flipped=False)
    assert window.sources(6, 0, 9).tolist() == [2, 3, 3, 4, 5, 5]  # 2 + (i + 0.5) * 4 / 6
    assert window.sources(3, 1, 9).tolist() == [2, 4, 6]
    assert window.sources(4, 0, 9).tolist() == [2, 3, 4, 5]
    flipped = Window(start=(2.0, 1.0), extent=(4.0, 6.0), filled=(4, 3), canvas=6, flipped=True)
    assert flipped.sources(6, 0, 9).tolist() == [2, 3, 4, 5]
    assert flipped.sources(6, 1, 9).tolist() == [6, 4, 2]
    mask = np.zeros((9, 9), bool)
    mask[3, 6] = True
    assert np.argwhere(flipped.gather(mask_set(mask), 6)).tolist() == [[0, 1, 0]]


def naive_masks(masks, size, window, *, short_side, cells):
    """The published order: resize at full size to the nearest pixel, crop, flip, then again to the grid."""
    scale = short_side / min(size)
    height, width = (int(side * scale + 0.5) for side in size)
    top, left = round(window.start[0] * height / size[0]), round(window.start[1] * width / size[1])
    out = []
    for mask in masks:
        big = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        big = big[top : top + 47, left : left + 47]
        big = big[:, ::-1] if window.flipped else big
        picks = ((np.arange(cells) + 0.5) * 47 / cells).astype(int)
        out.append(big[np.ix_(picks, picks)])
    return np.stack(out)


def test_one_gather_differs_from_the_published_chain_at_borders_only():
    size = (83, 127)
    blobs = ndimage.gaussian_filter(rng().normal(size=(5, *size)), (0, 5, 5))
    masks = blobs > 0
    around = np.ones((1, 5, 5), bool)  # two pixels of the photograph: one for each rounding
    borders = ndimage.binary_dilation(masks, around) & ~ndimage.binary_erosion(masks, around, border_value=1)
    changed = 0
    for seed in range(20):
        window = views().draw(size, rng(seed))
        ours = window.gather(mask_set(*masks), 23)
        theirs = naive_masks(masks, size, window, short_side=61, cells=23)
        assert not ((ours != theirs) & ~window.gather(mask_set(*borders), 23)).any()
        changed += int((ours != theirs).sum())
    assert 0 < changed < 0.05 * 20 * 5 * 23 * 23


def test_hole_leaves_the_masks_unless_told_otherwise():
    image = np.full((83, 127, 3), 200, dtype=np.uint8)
    masks = mask_set(np.ones((83, 127), bool))
    for seed in range(10):
        cut = views(mask_size=33, strong=CALM)(image, masks, rng(seed))
        assert np.array_equal(cut.masks[0], (cut.strong != 0).all(-1))
        assert not cut.masks[0].all()
        assert (cut.weak == 200).all()
        kept = views(mask_size=33, strong=CALM, cut_masks=False)(image, masks, rng(seed))
        assert kept.masks[0].all()
        assert np.array_equal(kept.strong, cut.strong)


def test_masks_come_largest_first_and_specks_are_dropped():
    image = np.zeros((11, 11, 3), dtype=np.uint8)
    small, large, speck, pair = np.zeros((4, 11, 11), bool)
    small[:3, :3] = large[:5, :7] = speck[10, 10] = pair[8, 2:4] = True
    whole = TwoViews(short_side=11, crop=11, size=11, mask_size=11, flip=0, distort=False, strong=WHOLE)
    out = whole(image, mask_set(small, large, speck, pair), rng())
    assert np.array_equal(out.masks, np.stack([large, small, pair]))
    assert whole(image, nothing(11, 11), rng()).masks.shape == (0, 11, 11)


def test_draws_follow_the_generator_alone_and_leave_the_image():
    image = rng(3).integers(0, 256, (83, 127, 3), dtype=np.uint8)
    image.flags.writeable = False
    masks = mask_set(*(rng(4).random((3, 83, 127)) < 0.5))
    first, second, other = (
        TwoViews(short_side=61, crop=47, size=33)(image, masks, rng(s)) for s in (1, 1, 2)
    )
    assert np.array_equal(first.weak, second.weak)
    assert np.array_equal(first.strong, second.strong)
    assert np.array_equal(first.masks, second.masks)
    assert not np.array_equal(first.weak, other.weak)


def test_colours_of_both_views_are_distorted_together():
    image = np.full((83, 127, 3), 100, dtype=np.uint8)
    outs = [views(distort=True, strong=WHOLE)(image, nothing(83, 127), rng(seed)) for seed in range(20)]
    assert all(np.array_equal(out.weak, out.strong) for out in outs)
    assert len({out.weak.tobytes() for out in outs}) > 5


def test_published_sizes_and_every_corner_is_reached():
    published = TwoViews()
    assert (published.short_side, published.crop, published.size, published.mask_size) == (
        1024,
        640,
        320,
        256,
    )
    assert (published.flip, published.distort, published.cut_masks) == (0.5, True, True)
    windows = [published.draw((512, 1000), rng(seed)) for seed in range(300)]
    assert all(window.extent == (320, 320) and window.filled == (320, 320) for window in windows)
    tops, lefts = [window.start[0] for window in windows], [window.start[1] for window in windows]
    assert 0 <= min(tops) < 5
    assert 187 < max(tops) <= 192
    assert 0 <= min(lefts) < 10
    assert 670 < max(lefts) <= 680


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 0}, "views.crop: expected .*, got 0"),
        ({"size": 3.5}, "views.size: expected a whole number, got 3.5"),
        ({"flip": 2}, "views.flip: expected from 0 to 1, got 2.0"),
        ({"cut_masks": "no"}, "views.cut_masks: expected true or false, got 'no'"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        TwoViews(**settings)
