"""Settings of a tuning that are refused before a photograph is opened."""

import pytest

from lexiseg.errors import ConfigError
from lexiseg.recipes.pixelclip import PictureSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": 10**21}, "pictures.images: expected"),
        ({"examples": 101}, "pictures.examples: expected from 0 to 100, got 101"),
        ({"every_steps": -1}, "pictures.every_steps: expected at least 0, got -1"),
        ({"every_steps": 1.5}, "pictures.every_steps: expected a whole number, got 1.5"),
    ],
)
def test_pictures_that_cannot_be_drawn(values, message):
    with pytest.raises(ConfigError, match=message):
        PictureSettings(**values)
