import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.resize import (
    fit_within,
    keep_ratio_size,
    patch_grid_size,
    resize_image,
    resize_image_pillow,
    resize_label,
    shortest_edge_size,
)
from support import golden_files


def opencv_axis(target, source, size):
    """The two source pixels of one target position and their weights, in 2048ths, as OpenCV computes them."""
    centre = np.float32((target + 0.5) * (source / size) - 0.5)
    first = int(np.floor(centre))
    part = np.float32(centre - np.float32(first))
    return first, round(float(np.float32(1) - part) * 2048), round(float(part) * 2048)


def opencv_pixel(plane, row, column, size):
    """One byte of cv2.resize(INTER_LINEAR), in plain integers."""
    height, width = len(plane), len(plane[0])
    top, upper_weight, lower_weight = opencv_axis(row, height, size[0])
    left, left_weight, right_weight = opencv_axis(column, width, size[1])

    def along(line):
        line = plane[min(max(line, 0), height - 1)]
        if left < 0:
            return line[0] * 2048
        if left >= width - 1:
            return line[width - 1] * 2048
        return line[left] * left_weight + line[left + 1] * right_weight

    upper, lower = along(top) >> 4, along(top + 1) >> 4
    return ((upper * upper_weight >> 16) + (lower * lower_weight >> 16) + 2) >> 2


@pytest.mark.parametrize("size", [(11, 29), (3, 5), (23, 7), (5, 31), (1, 1), (7, 26), (64, 2)])
def test_equals_the_fixed_point_arithmetic_of_opencv_up_and_down(size):
    image = torch.randint(0, 256, (7, 13, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    planes = image.permute(2, 0, 1).tolist()
    expected = [
        [[opencv_pixel(plane, row, column, size) for plane in planes] for column in range(size[1])]
        for row in range(size[0])
    ]
    assert resize_image(image, size).tolist() == expected


@pytest.mark.parametrize("size", [(11, 29), (3, 5), (13, 7), (1, 1), (7, 26)])
def test_labels_take_the_pixel_at_their_corner_up_and_down(size):
    label = torch.arange(7 * 13, dtype=torch.uint8).reshape(7, 13)
    expected = [
        [int(label[row * 7 // size[0], column * 13 // size[1]]) for column in range(size[1])]
        for row in range(size[0])
    ]
    resized = resize_label(label, size)
    assert resized.tolist() == expected
    assert resized.dtype == torch.uint8


def test_nearest_label_by_hand():
    label = torch.tensor([[1, 2, 3]], dtype=torch.uint8)
    assert resize_label(label, (1, 5)).tolist() == [[1, 1, 2, 2, 3]]
    assert resize_label(label, (2, 2)).tolist() == [[1, 2], [1, 2]]
    assert resize_label(label, (1, 3)) is label


def test_short_side_has_no_cap_and_rounds_halves_up():
    assert keep_ratio_size((100, 800), 512) == (512, 4096)
    assert keep_ratio_size((500, 333), 512) == (769, 512)
    assert fit_within((4, 10), 25, 100) == (10, 25)
    assert fit_within((2, 5), 3, 3) == (1, 3)  # 1.2 and 3.0
    assert fit_within((1, 999), 9, 9) == (1, 9)  # never nothing


def test_the_size_itself_changes_nothing():
    image = torch.randint(0, 256, (5, 7, 3), dtype=torch.uint8)
    assert resize_image(image, (5, 7)) is image


@pytest.mark.parametrize("size", [(11, 29), (3, 5), (13, 7), (1, 1), (64, 2)])
def test_equals_float_interpolation_to_one_level(size):
    image = torch.randint(0, 256, (7, 13, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(image.permute(2, 0, 1)[None].float(), size=size, mode="bilinear")[0]
    difference = resize_image(image, size).float() - expected.permute(1, 2, 0)
    assert difference.abs().max() <= 1.0


def test_hand_computed_doubling():
    # Pixel centres at -0.25, 0.25, 0.75, 1.25: the outer two repeat the border.
    image = torch.tensor([[0, 200]], dtype=torch.uint8)[..., None]
    assert resize_image(image, (1, 4))[0, :, 0].tolist() == [0, 50, 150, 200]


def test_one_pixel_becomes_a_flat_image():
    assert (resize_image(torch.full((1, 1, 3), 77, dtype=torch.uint8), (9, 4)) == 77).all()


@pytest.mark.parametrize("path", golden_files("training-free", "preprocess.npz"), ids=str)
def test_equals_opencv_bit_for_bit(path):
    archive = np.load(path)
    source = torch.from_numpy(archive["orig"])
    keys = [key for key in archive if key.endswith("/resized_u8_bgr")]
    assert keys
    for key in keys:
        side = int(key.split("/")[0].removeprefix("short"))
        ours = resize_image(source, keep_ratio_size((source.shape[0], source.shape[1]), side))
        assert torch.equal(ours, torch.from_numpy(archive[key])), key


@pytest.mark.parametrize(
    ("size", "short", "long", "expected"),
    [
        ((480, 640), 640, 2560, (640, 853)),  # 853.33
        ((427, 640), 640, 2560, (640, 959)),  # 959.25
        ((640, 427), 640, 2560, (959, 640)),
        ((100, 800), 640, 2560, (320, 2560)),
        ((375, 500), 512, 2048, (512, 683)),  # 682.67
        ((300, 300), 800, 1333, (800, 800)),
        ((1024, 2048), 800, 1333, (667, 1333)),  # 666.5 rounds up
        ((1, 9000), 640, 2560, (1, 2560)),
    ],
)
def test_the_shortest_edge_sets_the_size_unless_the_longest_is_too_long(size, short, long, expected):
    assert shortest_edge_size(size, short, long) == expected


def test_pillow_averages_where_it_shrinks():
    stripes = torch.zeros(7, 60, 3, dtype=torch.uint8)
    stripes[:, ::2] = 200
    small = resize_image_pillow(stripes, (7, 15))
    assert small.shape == (7, 15, 3)
    assert (small[:, 2:-2].int() - 100).abs().max() <= 8
    assert resize_image_pillow(stripes, (7, 60)) is stripes


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((32, 48), 99, (32, 48)),  # whole patches stay, however small
        ((112, 150), 112, (128, 160)),
        ((500, 341), 336, (512, 352)),
        ((17, 400), 64, (64, 400)),  # the longer side is whole already, the other goes up
        ((33, 16), 1, (48, 32)),  # 16 * 48 / 33 is 23, then up to 32
    ],
)
def test_whole_patches(size, at_least, expected):
    assert patch_grid_size(size, 16, at_least) == expected
