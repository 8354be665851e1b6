import numpy as np
import pytest
from PIL import Image

from lexiseg.drawing.grid import LabelledPanel, comparison, fit_labels, name_key, panel_grid, panel_size
from lexiseg.drawing.palette import class_colours

NAMES = ("sky", "road", "tree")


def pixels_of(image):
    return {tuple(int(v) for v in row) for row in np.unique(np.asarray(image).reshape(-1, 3), axis=0)}


@pytest.mark.parametrize(
    ("size", "expected"),
    [((8, 8), (416, 416)), ((97, 130), (291, 390)), ((9000, 12000), (315, 420)), ((2, 9000), (1, 420))],
)
def test_panel_size(size, expected):
    assert panel_size(*size) == expected


def test_labels_at_another_size():
    labels = np.array([[1, 2, 3], [4, 5, 600]], dtype=np.uint16)
    assert fit_labels(labels, (4, 3)).tolist() == [[1, 2, 3]] * 2 + [[4, 5, 600]] * 2
    assert fit_labels(labels, (1, 1)).tolist() == [[5]]
    assert fit_labels(labels, (2, 3)).dtype == np.uint16


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (5, 3, 2), (12, 4, 3), (13, 4, 4)]
)
def test_rows_are_filled_evenly(count, columns, rows):
    sheet = panel_grid([Image.new("RGB", (100, 60))] * count, [f"m{i}" for i in range(count)])
    assert sheet.width == columns * (100 + 14) + 14
    assert sheet.height == rows * (46 + 60 + 14)


def test_columns_stand_below_each_other_whatever_the_titles():
    pictures = [Image.new("RGB", (10, 20), "red")] * 6
    sheet = np.asarray(panel_grid(pictures, ["a", "b", "a much longer title", "c", "d", "e"], per_row=3))
    red = (sheet == (255, 0, 0)).all(-1)
    starts = [np.flatnonzero(red[row].astype(int) > np.roll(red[row], 1)).tolist() for row in (50, 130)]
    assert len(starts[0]) == 3
    assert starts[0] == starts[1]


def test_titles_must_fit_pictures():
    with pytest.raises(ValueError, match="1 pictures with 2 titles"):
        panel_grid([Image.new("RGB", (5, 5))], ["a", "b"])
    with pytest.raises(ValueError, match="0 pictures"):
        panel_grid([], [])


def test_key_names_what_any_panel_shows():
    labels = [np.zeros((3, 5), np.uint8), np.full((3, 5), 2, np.uint8)]
    shown = pixels_of(
        name_key([LabelledPanel(str(i), label) for i, label in enumerate(labels)], NAMES, width=400)
    )
    sky, road, tree = class_colours(NAMES)
    assert {sky, tree} <= shown
    assert road not in shown
    assert (90, 90, 90) not in shown
    nothing = LabelledPanel("x", np.full((3, 5), 255, np.uint8))
    assert (90, 90, 90) in pixels_of(name_key([nothing], NAMES, width=400))


def test_key_breaks_its_lines_and_sums_up():
    names = [f"class number {i}" for i in range(200)]
    panel = LabelledPanel("x", np.arange(200, dtype=np.uint8)[None])
    few = name_key([LabelledPanel("x", np.zeros((1, 5), np.uint8))], names, width=500)
    many, wide = (name_key([panel], names, width=width) for width in (500, 1000))
    assert few.height < 50
    assert 15 * 28 < many.height < 31 * 28, "sixty names, two to four a line"
    assert wide.height < 0.7 * many.height
    assert name_key([panel], ["x" * 500, *names[1:]], width=500).width == 500


def test_stripes_are_explained_where_there_are_any():
    label = np.zeros((3, 5), np.uint8)
    plain = name_key([LabelledPanel("x", label)], NAMES, width=600)
    striped = name_key([LabelledPanel("x", label), LabelledPanel("y", label, ("sky",))], NAMES, width=600)
    assert (np.asarray(plain)[:, 200:] == (250, 250, 248)).all()
    assert (np.asarray(striped)[:, 80:] != (250, 250, 248)).any()


def test_comparison_draws_the_photograph_and_every_reading():
    image = np.full((40, 60, 3), 100, dtype=np.uint8)
    size = panel_size(40, 60)
    readings = [LabelledPanel("a", np.zeros(size, np.uint8)), LabelledPanel("b", np.full(size, 2, np.uint8))]
    sheet = np.asarray(comparison(image, readings, NAMES))
    step = size[1] + 14
    photograph, first, second = (tuple(sheet[46 + 9, 14 + step * k + 9].tolist()) for k in range(3))
    assert photograph == (100, 100, 100)
    assert first != second
    assert first != photograph
    with pytest.raises(ValueError, match="label maps of one size"):
        comparison(image, [*readings, LabelledPanel("c", np.zeros((4, 6), np.uint8))], NAMES)
    with pytest.raises(ValueError, match="got none"):
        comparison(image, [], NAMES)
