"""Cuts brought to the photograph's size."""

import numpy as np
import pytest
import torch

from lexiseg.errors import ConfigError
from lexiseg.masks.normalized_cut import NormalizedCut, NormalizedCutSettings, resize_mask
from mask_cases import photograph

THING = np.zeros((4, 4), dtype=bool)
THING[1:3, 1:3] = True


class FakeKeys:
    """Keys ``(3, 4, 4)`` of a ground and a thing, whatever the photograph shows."""

    def __init__(self) -> None:
        self.seen = None

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        self.seen = image
        kinds = torch.from_numpy(THING).long()
        noise = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
        return torch.eye(3)[kinds].permute(2, 0, 1) + 0.01 * noise


def test_the_thing_at_the_size_of_the_photograph() -> None:
    keys = FakeKeys()
    masks = NormalizedCut(keys, source={}, settings=NormalizedCutSettings(objects=1, side=32))(
        photograph(23, 31)
    )
    assert keys.seen.shape == (32, 32, 3)
    assert masks.size == (23, 31)
    expected = resize_mask(THING.repeat(8, 0).repeat(8, 1), (23, 31))
    assert (masks.arrays() == expected).all()
    assert expected[11, 15]
    assert not expected[2].any()


def test_objects_stand_in_the_order_of_their_finding() -> None:
    masks = NormalizedCut(FakeKeys(), source={}, settings=NormalizedCutSettings(side=32))(photograph(23, 31))
    assert len(masks) >= 2
    assert masks.arrays()[0][11, 15]


def test_refinement_draws_a_mask_to_the_colours() -> None:
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    image[6:26, 6:26] = 255  # two pixels more than the thing's patches on every side
    settings = NormalizedCutSettings(objects=1, side=32, refine_steps=10)
    plain = NormalizedCut(FakeKeys(), source={}, settings=NormalizedCutSettings(objects=1, side=32))(image)
    refined = NormalizedCut(FakeKeys(), source={}, settings=settings)(image)
    inside = image[..., 0] > 0
    assert (refined.arrays()[0] ^ inside).sum() < (plain.arrays()[0] ^ inside).sum()


def test_settings_say_what_masks_depend_on() -> None:
    provider = NormalizedCut(FakeKeys(), source={"model": "dino"})
    expected = {"objects": 8, "min_cosine": 0.3, "side": 640, "refine_steps": 0, "min_overlap": 0.5}
    assert provider.settings == {"model": "dino", **expected}


@pytest.mark.parametrize("name", ["objects", "side", "refine_steps", "min_cosine", "min_overlap"])
def test_impossible_settings(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"normalized_cut.{name}: expected .* got -2"):
        NormalizedCutSettings(**{name: -2})
