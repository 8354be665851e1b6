"""Partitions by like colour and texture."""

import pickle

import numpy as np
import pytest

from lexiseg.errors import ConfigError
from lexiseg.masks.superpixels import Superpixels
from mask_cases import photograph


def test_each_partition_covers_the_image_once_and_has_so_many_regions():
    image = photograph(67, 97)
    masks, partitions = Superpixels()(image), Superpixels().partitions(image)
    assert [len(np.unique(labels)) for labels in partitions[:2]] == [6, 12]
    found = {mask.tobytes() for mask in masks.arrays()}
    for labels in partitions:
        regions = [labels == index for index in np.unique(labels)]
        assert (np.sum(regions, axis=0) == 1).all()
        assert {region.tobytes() for region in regions} <= found
    assert (
        len(found)
        == len(masks)
        == len({r.tobytes() for p in partitions for r in [p == i for i in np.unique(p)]})
    )


def test_finer_partitions_refine_coarser_ones():
    coarse, fine = Superpixels(regions=(5, 13)).partitions(photograph(67, 97))
    for index in np.unique(fine):
        assert len(np.unique(coarse[fine == index])) == 1


def test_a_disc_on_textured_ground_is_found():
    rng = np.random.default_rng(0)
    image = np.clip(np.array([60, 140, 60]) + rng.normal(0, 25, (83, 131, 1)), 0, 255).astype(np.uint8)
    rows, columns = np.indices((83, 131))
    disc = (rows - 40) ** 2 + (columns - 50) ** 2 < 24**2
    image[disc] = np.clip(np.array([200, 60, 50]) + rng.normal(0, 25, (disc.sum(), 1)), 0, 255)
    overlaps = [(mask & disc).sum() / (mask | disc).sum() for mask in Superpixels()(image)]
    assert max(overlaps) > 0.9


def test_large_photographs_are_shrunk_and_masks_have_their_size():
    image = photograph(301, 503)
    masks = Superpixels(side=60, regions=(4,))(image)
    assert masks.size == (301, 503)
    assert (masks.arrays().sum(0) == 1).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (3, 700)])
def test_tiny_and_narrow_photographs(size):
    masks = Superpixels()(photograph(*size))
    assert masks.arrays().any(0).all()
    assert masks.size == size


def test_one_colour_is_one_mask():
    masks = Superpixels()(np.full((23, 31, 3), 77, np.uint8))
    assert masks.areas.tolist() == [23 * 31]


def test_settings_are_plain_and_travel_to_other_processes():
    provider = Superpixels(regions=[4, 9], texture=0.5)
    assert pickle.loads(pickle.dumps(provider)) == provider
    assert provider.settings == {
        "regions": (4, 9),
        "side": 320,
        "lightness": 0.5,
        "texture": 0.5,
        "position": 0.15,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regions": ()}, r"superpixels.regions: expected numbers of at least 2, got \[\]"),
        ({"regions": (8, 1)}, r"at least 2, got \[8, 1\]"),
        ({"side": 0}, "superpixels.side: expected at least 1 pixel, got 0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        Superpixels(**settings)
