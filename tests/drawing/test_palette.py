import numpy as np

from lexiseg.drawing.palette import class_colours, palette_bytes

NAMES = [f"class number {i}" for i in range(23)]


def test_colour_belongs_to_the_name_not_the_place():
    forwards = dict(zip(NAMES, class_colours(NAMES), strict=True))
    backwards = dict(zip(NAMES[::-1], class_colours(NAMES[::-1]), strict=True))
    assert forwards == backwards
    assert class_colours(["Sky"]) == class_colours(["sky"])
    assert class_colours(["sky"]) != class_colours(["road"])


def test_colours_of_one_list_stand_apart():
    colours = np.array(class_colours(NAMES), dtype=float)
    gaps = np.linalg.norm(colours[:, None] - colours[None], axis=-1)[~np.eye(len(NAMES), dtype=bool)]
    assert gaps.min() > 25
    assert len(set(class_colours([f"c{i}" for i in range(171)]))) == 171


def test_colours_are_neither_black_nor_white():
    colours = np.array(class_colours(NAMES))
    assert colours.max(1).min() > 100
    assert colours.min(1).max() < 235


def test_palette_has_256_entries_with_ignored_white():
    table = np.array(palette_bytes(["a", "b"])).reshape(256, 3)
    assert tuple(table[1]) == class_colours(["a", "b"])[1]
    assert table[2].tolist() == [0, 0, 0]
    assert table[255].tolist() == [255, 255, 255]


def test_no_names():
    assert class_colours([]) == ()
