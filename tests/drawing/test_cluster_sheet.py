"""Cut-outs of masks, and the sheet that shows them cluster by cluster."""

import numpy as np
import pytest
from PIL import Image

from lexiseg.drawing.cluster_sheet import ClusterCard, cluster_sheet, cut_out


def scene():
    """Blue with a red rectangle that is the mask; H != W."""
    image = np.full((61, 97, 3), (20, 40, 220), dtype=np.uint8)
    mask = np.zeros((61, 97), dtype=bool)
    mask[20:41, 50:61] = True
    image[mask] = (230, 30, 20)
    return image, mask


def test_a_cut_out_keeps_the_mask_and_washes_out_the_rest():
    image, mask = scene()
    before = image.copy(), mask.copy()
    picture = np.asarray(cut_out(image, mask, side=52)).astype(int)
    assert picture.shape == (52, 52, 3)
    # The square is 26 wide for a mask of 21 × 11, so its centre lies on the mask's and 52 / 26 pixels show one.
    assert np.abs(picture[26, 26] - (230, 30, 20)).max() < 3
    grey = 0.3 * (20 + 40 + 220) / 3
    assert np.abs(picture[26, 3] - (grey + 0.7 * np.array([250, 250, 248]))).max() < 3
    red = (picture[..., 0] > 180) & (picture[..., 2] < 60)
    assert 40 * 20 <= red.sum() <= 42 * 22, "all of it but for a soft border of one pixel"
    assert (image == before[0]).all()
    assert (mask == before[1]).all()


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(slice(0, 1), slice(96, 97)), (slice(0, 61), slice(0, 97)), (slice(60, 61), slice(0, 40))],
)
def test_masks_at_the_border_of_the_picture(rows, columns):
    image, mask = scene()
    mask[:] = False
    mask[rows, columns] = True
    image[mask] = (230, 30, 20)
    picture = np.asarray(cut_out(image, mask, side=40)).astype(int)
    assert picture.shape == (40, 40, 3)
    assert ((picture[..., 0] > 150) & (picture[..., 2] < 120)).any(), "the mask is in the square"


def card(number, count, tiles):
    words = (
        ("striped star", 0.83),
        ("dotted star", 0.79),
        ("a word that is much longer than any place for it", 0.7),
    )
    pictures = tuple(Image.new("RGB", (30, 30), (10 * tile, 90, 200)) for tile in range(tiles))
    return ClusterCard(f"#{number}", words, count, pictures)


def test_a_sheet_grows_by_lines_of_three():
    sheets = [
        cluster_sheet([card(n, n + 1, 2) for n in range(count)], title="step 5", tiles=2)
        for count in (1, 3, 4)
    ]
    assert sheets[1].width > sheets[0].width
    assert sheets[1].height == sheets[0].height < sheets[2].height
    assert sheets[2].width == sheets[1].width


def test_every_tile_is_drawn_and_missing_ones_are_empty_places():
    full, half = (
        np.asarray(cluster_sheet([card(0, 3, tiles)], title="t", tiles=4)).astype(int) for tiles in (4, 2)
    )
    assert full.shape == half.shape
    blue = [((sheet[..., 2] - sheet[..., 0]) > 100).sum() for sheet in (full, half)]
    assert blue == [4 * 88 * 88, 2 * 88 * 88]


def test_no_cluster_at_all():
    assert cluster_sheet([], title="step 0: 0 clusters, 7 more without a mask", tiles=6).width > 200
