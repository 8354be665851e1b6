"""Boxes, crops and fills against loops over single pixels."""

import math

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.region_crops import (
    aligned_crops,
    change_colors,
    covered_patches,
    crop_boxes,
    not_filled,
    region_crops,
    roi_align,
    tight_boxes,
    whole_crops,
)

HEIGHT, WIDTH, SIDE = 11, 17, 5


def picture(seed=0):
    return torch.randn(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def mask(*boxes, height=HEIGHT, width=WIDTH):
    """True within ``(top, bottom, left, right)``, ends included."""
    drawn = torch.zeros(height, width, dtype=torch.bool)
    for top, bottom, left, right in boxes:
        drawn[top : bottom + 1, left : right + 1] = True
    return drawn


SHAPES = {
    "plain": mask((2, 7, 3, 12)),
    "two blobs": mask((1, 2, 0, 1), (8, 9, 13, 16)),
    "whole": mask((0, HEIGHT - 1, 0, WIDTH - 1)),
    "empty": mask(),
    "row": mask((4, 4, 2, 9)),
    "column": mask((1, 8, 6, 6)),
    "pixel": mask((10, 10, 16, 16)),
    "two rows": mask((0, 1, 0, 3)),
}


def naive_ends(one):
    rows = [y for y in range(HEIGHT) if one[y].any()]
    columns = [x for x in range(WIDTH) if one[:, x].any()]
    return [columns[0], rows[0], columns[-1], rows[-1]] if rows else [0, 0, -1, -1]


def test_tight_boxes():
    boxes = tight_boxes(torch.stack(list(SHAPES.values())))
    assert boxes.tolist() == [naive_ends(one) for one in SHAPES.values()]


def test_boxes_end_at_the_last_index_and_flat_masks_have_the_whole_picture():
    whole, found = [0, 0, WIDTH, HEIGHT], crop_boxes(torch.stack(list(SHAPES.values()))).tolist()
    flat = ("empty", "row", "column", "pixel")
    for name, box in zip(SHAPES, found, strict=True):
        assert box == (whole if name in flat else naive_ends(SHAPES[name])), name


def naive_roi_align(image, box, side):
    """Every sample of every bin on its own."""
    channels, height, width = image.shape
    x0, y0, x1, y1 = box
    across, down = (max(math.ceil((end - start) / side), 1) for start, end in ((x0, x1), (y0, y1)))
    out = torch.zeros(channels, side, side)

    def read(y, x):
        if not (-1 <= y <= height and -1 <= x <= width):
            return torch.zeros(channels)
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = math.floor(y), math.floor(x)
        low, right = min(top + 1, height - 1), min(left + 1, width - 1)
        b, a = y - top, x - left
        upper = image[:, top, left] * (1 - a) + image[:, top, right] * a
        lower = image[:, low, left] * (1 - a) + image[:, low, right] * a
        return upper * (1 - b) + lower * b

    for i in range(side):
        for j in range(side):
            for k in range(down):
                for m in range(across):
                    y = y0 - 0.5 + (i + (k + 0.5) / down) * (y1 - y0) / side
                    x = x0 - 0.5 + (j + (m + 0.5) / across) * (x1 - x0) / side
                    out[:, i, j] += read(y, x) / (down * across)
    return out


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, WIDTH, HEIGHT),
        (3, 2, 12, 7),
        (0, 0, 3, 1),
        (2.25, 1.5, 4.75, 10),
        (-4, -3, 19, 14),
        (15, 9, 16, 10),
    ],
    ids=str,
)
def test_roi_align(box):
    image = picture()
    torch.testing.assert_close(
        roi_align(image, box, SIDE), naive_roi_align(image, box, SIDE), rtol=1e-5, atol=1e-5
    )


def test_roi_align_takes_samples_by_axis():
    """17 columns give four samples per bin, 4 rows one."""
    image = picture()
    torch.testing.assert_close(
        roi_align(image, (0, 3, 17, 7), SIDE),
        naive_roi_align(image, (0, 3, 17, 7), SIDE),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("blank", [True, False])
def test_aligned_crops(blank):
    image, masks = picture(), torch.stack(list(SHAPES.values()))
    crops = aligned_crops(image, masks, SIDE, blank=blank)
    boxes = crop_boxes(masks).tolist()
    for crop, one, box in zip(crops, masks, boxes, strict=True):
        source = torch.where(one, image, torch.zeros(())) if blank else image
        torch.testing.assert_close(crop, naive_roi_align(source, box, SIDE), rtol=1e-5, atol=1e-5)
    empty = list(SHAPES).index("empty")
    assert bool(crops[empty].any()) != blank
    assert aligned_crops(image, masks[:0], SIDE, blank=blank).shape == (0, 3, SIDE, SIDE)


def test_whole_crops():
    """Nearest-free: both picture and logits are resized bilinearly, then the mask is cut."""
    image, logits = picture(), torch.randn(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3))
    crops = whole_crops(image, logits, SIDE)

    def resized(channel):
        rows = [(i + 0.5) * HEIGHT / SIDE - 0.5 for i in range(SIDE)]
        columns = [(j + 0.5) * WIDTH / SIDE - 0.5 for j in range(SIDE)]
        out = torch.zeros(SIDE, SIDE)
        for i, y in enumerate(rows):
            for j, x in enumerate(columns):
                top, left = math.floor(y), math.floor(x)
                b, a = y - top, x - left
                out[i, j] = (1 - b) * ((1 - a) * channel[top, left] + a * channel[top, left + 1]) + b * (
                    (1 - a) * channel[top + 1, left] + a * channel[top + 1, left + 1]
                )
        return out

    square = torch.stack([resized(channel) for channel in image])
    for crop, one in zip(crops, logits, strict=True):
        inside = (resized(one).sigmoid() > 0.5).float()
        torch.testing.assert_close(crop, square * inside, rtol=1e-4, atol=1e-5)


def test_region_crops():
    image = picture()
    names = [name for name in SHAPES if name != "empty"]
    masks = torch.stack([SHAPES[name] for name in names])
    regions, insides = region_crops(image, masks, SIDE)
    assert insides.dtype == torch.bool
    for region, inside, one in zip(regions, insides, masks, strict=True):
        x0, y0, x1, y1 = naive_ends(one)
        height, width = y1 - y0 + 1, x1 - x0 + 1
        nearest = [
            [bool(one[y0 + i * height // SIDE, x0 + j * width // SIDE]) for j in range(SIDE)]
            for i in range(SIDE)
        ]
        assert inside.tolist() == nearest
        cut = (image * one)[:, y0 : y1 + 1, x0 : x1 + 1]
        expected = F.interpolate(cut[None], size=(SIDE, SIDE), mode="bicubic", align_corners=False)[0]
        torch.testing.assert_close(region, expected)
    pixel = names.index("pixel")
    assert torch.allclose(regions[pixel], image[:, 10, 16].view(3, 1, 1).expand(3, SIDE, SIDE), atol=1e-5)


def test_region_crops_of_nothing():
    regions, insides = region_crops(picture(), torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool), SIDE)
    assert regions.shape == (0, 3, SIDE, SIDE)
    assert insides.shape == (0, SIDE, SIDE)


def test_covered_patches():
    masks = torch.stack([mask((0, 2, 5, 5), height=6, width=9), mask(height=6, width=9)])
    expected = [bool(masks[0, i : i + 3, j : j + 3].any()) for i in (0, 3) for j in (0, 3, 6)]
    assert covered_patches(masks, 3).tolist() == [expected, [False] * 6]
    assert expected == [False, True, False, False, False, False]


def test_not_filled():
    pictures = torch.tensor([124, 116, 103]).view(1, 3, 1, 1).repeat(2, 1, 3, 5)
    pictures[0, 1, 2, 4] = 117
    assert not_filled(pictures).nonzero().tolist() == [[0, 2, 4]]


def test_change_colors():
    """What is outside the content stays zero, whatever the means."""
    raw = torch.rand(2, 3, 7, 9) * 255
    given = (torch.tensor([120.0, 110, 100]).view(3, 1, 1), torch.tensor([60.0, 50, 40]).view(3, 1, 1))
    wanted = (torch.tensor([10.0, 20, 30]).view(3, 1, 1), torch.tensor([2.0, 3, 5]).view(3, 1, 1))
    images = F.pad((raw - given[0]) / given[1], (0, 4, 0, 2))
    changed = change_colors(images, (7, 9), given, wanted)
    assert changed.shape == (2, 3, 9, 13)
    torch.testing.assert_close(changed[..., :7, :9], (raw - wanted[0]) / wanted[1], rtol=1e-4, atol=1e-4)
    assert not changed[..., 7:, :].any()
    assert not changed[..., 9:].any()
