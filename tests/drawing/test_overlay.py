import numpy as np
import pytest
from PIL import Image

from lexiseg.drawing.overlay import annotate, blend, legend, palette_image, panels
from lexiseg.drawing.palette import class_colours

NAMES = ("sky", "road", "tree")


def scene(height=23, width=31):
    label = np.zeros((height, width), dtype=np.uint8)
    label[:, 17:] = 2
    return np.full((height, width, 3), 100, dtype=np.uint8), label


def test_palette_image_keeps_ids(tmp_path):
    label = np.array([[0, 2, 255], [1, 1, 0]], dtype=np.uint8)
    palette_image(label, NAMES).save(tmp_path / "a.png")
    read = Image.open(tmp_path / "a.png")
    assert read.mode == "P"
    assert (np.asarray(read) == label).all()
    assert read.convert("RGB").getpixel((1, 0)) == class_colours(NAMES)[2]


def test_blend_by_hand():
    image, label = scene()
    mixed = blend(image, label, NAMES, alpha=0.5)
    expected = np.rint(0.5 * 100 + 0.5 * np.array(class_colours(NAMES)[0]))
    assert mixed[3, 3].tolist() == expected.tolist()
    assert mixed[3, 16].min() > 190  # the border between two classes is nearly white
    assert (image == 100).all()


def test_unseen_classes_are_hatched_and_others_are_not():
    image, label = scene()
    plain, hatched = (blend(image, label, NAMES, hatched=names) for names in ((), ("tree",)))
    changed = (plain != hatched).any(-1)
    assert not changed[:, :17].any()
    assert 0.1 < changed[:, 17:].mean() < 0.3


def test_ignored_pixels_are_grey():
    image, label = scene()
    label[:5, :5] = 255
    image[:5, :5] = (200, 0, 100)
    grey = blend(image, label, NAMES)[2, 2]
    assert len(set(grey.tolist())) == 1


def test_annotate_enlarges_small_pictures_and_adds_the_legend():
    image, label = scene()
    sheet = annotate(image, label, NAMES, min_side=100)
    assert sheet.height == 5 * 23
    assert sheet.width > 5 * 31 + 100
    large = annotate(image, label, NAMES, min_side=1)
    assert large.height >= 23


def test_legend_shows_present_classes_only():
    _, label = scene()
    swatches = np.asarray(legend(label, NAMES, height=200)).reshape(-1, 3)
    shown = {tuple(int(value) for value in row) for row in swatches}
    colours = class_colours(NAMES)
    assert colours[0] in shown
    assert colours[2] in shown
    assert colours[1] not in shown


def test_long_legends_grow_and_are_summed_up():
    label = np.tile(np.arange(60, dtype=np.uint8), (5, 1))
    panel = legend(label, [f"c{i}" for i in range(60)], height=100)
    assert 24 * 12 < panel.height < 30 * 30


def test_legend_of_everything_ignored_and_of_unknown_ids():
    assert legend(np.full((3, 5), 255, dtype=np.uint8), NAMES).width > 50
    assert legend(np.full((3, 5), 9, dtype=np.uint8), NAMES).width > 50


def test_panels_stand_side_by_side_under_their_titles():
    pictures = [np.zeros((20, 30, 3), dtype=np.uint8), Image.new("RGB", (50, 40))]
    sheet = panels(pictures, ["a photograph with a long title", "b"])
    assert sheet.height > 40
    assert sheet.width > 200 + 50
    assert panels(pictures, ["a", "b"], min_side=60).height > 60
    with pytest.raises(ValueError, match="2 pictures with 1 titles"):
        panels(pictures, ["a"])


def test_a_thin_picture_is_not_enlarged_beyond_measure():
    image, label = np.zeros((3, 2000, 3), dtype=np.uint8), np.zeros((3, 2000), dtype=np.uint8)
    sheet = annotate(image, label, ["a"])
    assert sheet.width < 9000
    assert panels([image], ["thin"], min_side=300).width < 9000
