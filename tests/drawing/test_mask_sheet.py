"""Layers of masks that do not overlap, and their picture."""

import numpy as np

from lexiseg.drawing.mask_sheet import mask_layers, mask_sheet


def boxes(*corners, size=(23, 31)):
    masks = np.zeros((len(corners), *size), dtype=bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_overlapping_masks_go_to_different_layers():
    masks = boxes((0, 0, 10, 10), (0, 0, 20, 20), (0, 20, 20, 31), (5, 5, 5, 5))
    layers = mask_layers(masks)
    assert [sorted(np.unique(layer).tolist()) for layer in layers] == [[0, 1, 255], [0, 255]]
    assert (layers[0] == np.where(masks[1], 0, np.where(masks[2], 1, 255))).all()
    assert ((layers[1] == 0) == masks[0]).all()


def test_a_thin_overlap_is_let_pass():
    assert len(mask_layers(boxes((0, 0, 20, 20), (0, 19, 20, 30)))) == 1


def test_no_layer_holds_more_than_a_byte_can_name():
    masks = np.eye(300, dtype=bool).reshape(300, 20, 15)
    layers = mask_layers(masks)
    assert [len(np.unique(layer)) - 1 for layer in layers] == [250, 50]


def test_the_sheet_has_a_panel_per_layer_and_one_for_the_photograph():
    image = np.full((23, 31, 3), 90, np.uint8)
    nested = boxes(*((0, 0, 3 * n, 3 * n) for n in range(1, 8)))
    widths = [mask_sheet(image, nested[:n], title="").width for n in (0, 1, 4, 7)]
    assert widths[0] < widths[1] < widths[2] < widths[3] + 1
    assert mask_sheet(image, nested[:0], title="none").height > 23
