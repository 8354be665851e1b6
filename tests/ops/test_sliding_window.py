import json

import pytest

from lexiseg.errors import ConfigError
from lexiseg.ops.resize import keep_ratio_size
from lexiseg.ops.sliding_window import window_grid, window_starts
from support import golden_files


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"),
    [
        (683, 512, 426, (0, 171)),
        (512, 512, 426, (0,)),
        (513, 512, 426, (0, 1)),
        (938, 512, 426, (0, 426)),
        (939, 512, 426, (0, 426, 427)),
        (7, 512, 426, (0,)),
        (10, 4, 4, (0, 4, 6)),
    ],
)
def test_last_window_is_flush_with_the_border(size, window, stride, expected):
    assert window_starts(size, window, stride) == expected


def test_grid_goes_row_by_row_and_clips_to_the_image():
    grid = window_grid((5, 11), 7, (5, 3))
    assert (grid.height, grid.width, len(grid)) == (5, 7, 3)
    assert grid.boxes == ((0, 0, 5, 7), (0, 3, 5, 10), (0, 4, 5, 11))


def test_no_window_is_the_whole_image():
    assert window_grid((5, 11), None).boxes == ((0, 0, 5, 11),)


def test_every_pixel_is_covered():
    for size in range(1, 40):
        for window, stride in ((7, 3), (7, 7), (13, 5)):
            starts = window_starts(size, window, stride)
            assert {p for s in starts for p in range(s, min(s + window, size))} == set(range(size))
            assert len(set(starts)) == len(starts)


def test_gaps_and_zeros_are_refused():
    with pytest.raises(ConfigError, match="stride of 8 leaves gaps between windows of 7; use at most 7"):
        window_starts(30, 7, 8)
    with pytest.raises(ConfigError, match="at least 1 pixel, got 30, 7 and 0"):
        window_starts(30, 7, 0)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ((375, 500), (512, 683)),
        ((500, 333), (769, 512)),
        ((640, 427), (767, 512)),
        ((1080, 1920), (512, 910)),
        ((100, 800), (512, 4096)),
    ],
)
def test_keep_ratio_sizes_of_mmcv(source, expected):
    assert keep_ratio_size(source, 512) == expected


@pytest.mark.parametrize("path", golden_files("cascade", "test_resize.json"), ids=str)
def test_published_sizes_and_window_counts(path):
    for source, expected in json.loads(path.read_text()).items():
        height, width = map(int, source.split("x"))
        size = keep_ratio_size((height, width), 512)
        grid = window_grid(size, 512, 426)
        assert list(size) == expected["resized"], source
        assert [len(grid.tops), len(grid.lefts)] == expected["windows"], source
