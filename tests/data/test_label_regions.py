import numpy as np
import pytest

from lexiseg.data.label_regions import RegionMap, label_regions

LABEL = np.array(
    [
        [3, 3, 255, 7, 7],
        [3, 0, 0, 254, 7],
        [0, 0, 3, 3, 254],
    ],
    dtype=np.uint8,
)


def masks_of(regions):
    return regions.sample(np.arange(regions.size[0]), np.arange(regions.size[1]))


def test_connected_regions_by_hand():
    regions = label_regions(LABEL)
    assert regions.size == (3, 5)
    assert len(regions) == 4
    assert masks_of(regions).astype(int).tolist() == [
        [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [1, 1, 0, 0, 0]],
        [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]],
        [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 1, 0]],
        [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]],
    ]


def test_regions_per_class_by_hand():
    masks = masks_of(label_regions(LABEL, "class"))
    assert masks.dtype == np.bool_
    assert [int(mask.sum()) for mask in masks] == [4, 5, 3]
    assert np.array_equal(masks[1], LABEL == 3)


@pytest.mark.parametrize("code", [254, 255])
def test_nothing_labelled_gives_no_mask(code):
    regions = label_regions(np.full((3, 5), code, np.uint8))
    assert len(regions) == 0
    assert masks_of(regions).shape == (0, 3, 5)


def test_sampling_takes_rows_and_columns_in_any_order():
    ids = np.array([[1, 0, 2], [3, 3, 0]])
    sampled = RegionMap(ids, 3).sample(np.array([1, 0, 0]), np.array([2, 0]))
    assert sampled.astype(int).tolist() == [
        [[0, 0], [0, 1], [0, 1]],
        [[0, 0], [1, 0], [1, 0]],
        [[0, 1], [0, 0], [0, 0]],
    ]
