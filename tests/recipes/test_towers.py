"""Blocks chosen by number."""

import pytest

from lexiseg.errors import ConfigError
from lexiseg.recipes.towers import choose_blocks


def test_blocks_stand_in_the_tower_s_order_and_once():
    assert choose_blocks("12, 6,6", 12) == (6, 12)
    assert choose_blocks(" all ", 3) == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "fewest"),
    [("0", 1), ("4", 1), ("", 1), (",", 1), ("two", 1), ("-1", 1), ("1.5", 1), ("2", 2), ("2,2", 2)],
)
def test_mistakes(text, fewest):
    with pytest.raises(ConfigError, match=f"expected all, or {fewest} or more numbers from 1 to 3"):
        choose_blocks(text, 3, fewest=fewest)
