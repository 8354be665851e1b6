import numpy as np
import pytest
from PIL import Image

from lexiseg.drawing.heatmap import (
    NOTHING,
    captioned,
    colour_bar,
    colour_scale,
    framed,
    heat_over,
    matrices,
    patch_maps,
)

CELL = 36


def luma(colours):
    return np.asarray(colours) @ np.array([0.299, 0.587, 0.114])


def test_scale_grows_lighter_all_the_way():
    colours = colour_scale(np.linspace(-1, 1, 101), -1, 1)
    assert (np.diff(luma(colours)) > 0).all()
    assert luma(colours[0]) < 40
    assert luma(colours[-1]) > 230


def test_scale_ends_and_gaps():
    colours = colour_scale(np.array([[-9.0, 0.2, 0.7], [0.9, 5.0, np.nan]]), 0.2, 0.9)
    assert colours.shape == (2, 3, 3)
    assert (colours[0, 0] == colours[0, 1]).all()
    assert (colours[1, 0] == colours[1, 1]).all()
    assert tuple(colours[1, 2]) == NOTHING
    assert luma(colours[0, 1]) < luma(colours[0, 2]) < luma(colours[1, 0])


def cell(sheet, left, row, column):
    """Colour near the corner of a cell, where no number stands."""
    return tuple(sheet[46 + CELL * row + 4, left + 30 + CELL * column + 4])


def test_matrices_stand_side_by_side_with_their_rows_from_the_top():
    first = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.4], [0.2, 0.4, 1.0]])
    second = np.full((3, 3), np.nan)
    sheet = np.asarray(matrices({"a": first, "b": second}, ["1", "2", "3"], captions=["x", "y"], low=0.2))
    expected = colour_scale(first, 0.2, 1.0)
    found = [[cell(sheet, 14, row, column) for column in range(3)] for row in range(3)]
    assert found == [[tuple(colour) for colour in row] for row in expected]
    next_one = 14 + (30 + 3 * CELL + 2) + 14
    assert cell(sheet, next_one, 1, 1) == NOTHING


def test_values_are_written_into_small_matrices_only():
    def inked(count):
        sheet = np.asarray(
            matrices({"a": np.full((count, count), 0.5)}, ["1"] * count, captions=[""], low=0.0)
        )
        inside = sheet[46 : 46 + CELL, 44 : 44 + CELL].reshape(-1, 3)
        return len(np.unique(inside, axis=0)) > 1

    assert inked(16)
    assert not inked(17)


def test_every_matrix_has_a_caption():
    with pytest.raises(ValueError):
        matrices({"a": np.eye(2)}, ["1", "2"], captions=[], low=0.0)


def test_bar_runs_from_light_to_dark():
    bar = np.asarray(colour_bar(0.3, 1.0, height=90))
    assert bar.shape[0] == 90
    assert (np.diff(luma(bar[:, 3])) <= 0).all()
    assert (bar[:, 40:] < 200).any(), "with numbers beside"


def test_heat_keeps_its_place_over_a_grey_photograph():
    """Two patches: the left one low, the right one high, over the middle grey that shades nothing."""
    image = np.full((30, 50, 3), 128, dtype=np.uint8)
    drawn = np.asarray(heat_over(image, np.array([[0.0, 1.0]]), low=0, high=1, size=(60, 100)))
    assert drawn.shape == (60, 100, 3)
    dark, light = colour_scale(np.array([0.0, 1.0]), 0, 1).astype(int)
    assert abs(drawn[30, 2] - dark).max() < 30
    assert abs(drawn[30, 97] - light).max() < 30
    image[:15] = 0
    shaded = np.asarray(heat_over(image, np.array([[0.0, 1.0]]), low=0, high=1, size=(60, 100)))
    assert luma(shaded[5, 97]) < luma(shaded[55, 97])


def test_frame_reads_on_light_and_dark_and_leaves_the_inside():
    for ground in ((0, 0, 0), (255, 255, 255)):
        picture = Image.new("RGB", (60, 50), ground)
        drawn = np.asarray(framed(picture, (20, 10, 40, 30)))
        assert tuple(drawn[20, 30]) == ground
        assert len(np.unique(drawn[20, 15:22].reshape(-1, 3), axis=0)) >= 2
        assert picture.getpixel((19, 20)) == ground, "the picture given stays as it is"


def test_caption_below():
    picture = Image.new("RGB", (40, 20), (1, 2, 3))
    sheet = captioned(picture, "a line that is wider than the picture")
    assert sheet.width > 40
    assert sheet.height > 20
    assert sheet.getpixel((5, 5)) == (1, 2, 3)


@pytest.mark.parametrize(("blocks", "columns", "rows"), [(3, 4, 2), (6, 7, 2), (12, 7, 4)])
def test_each_tower_begins_a_row(blocks, columns, rows):
    image = np.full((40, 80, 3), 200, dtype=np.uint8)
    of_tower = {block: np.random.default_rng(block).random((4, 8)) for block in range(1, blocks + 1)}
    sheet = patch_maps(image, {"frozen CLIP": of_tower, "trained": of_tower}, (1, 2))
    assert sheet.width == columns * (320 + 14) + 14
    assert sheet.height == rows * (46 + 160 + 14) + 30
    pixels = np.asarray(sheet)
    for tower in range(2):
        top = 46 + tower * (rows // 2) * (46 + 160 + 14)
        assert tuple(pixels[top + 5, 14 + 5]) == (200, 200, 200), "the photograph comes first"


def test_a_map_without_differences_is_drawn():
    image = np.zeros((10, 10, 3), dtype=np.uint8)
    assert patch_maps(image, {"a": {1: np.ones((1, 1))}}, (0, 0)).width > 2 * 320
