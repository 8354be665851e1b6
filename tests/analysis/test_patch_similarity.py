"""Points to patches and cosines, by hand."""

import pytest
import torch

from lexiseg.analysis.patch_similarity import patch_at, patch_similarity
from lexiseg.errors import DataError


@pytest.mark.parametrize(
    ("point", "patch"), [((0, 0), (0, 0)), ((99, 59), (2, 4)), ((20, 19), (0, 1)), ((19, 20), (1, 0))]
)
def test_points(point, patch):
    """A photograph 60 high and 100 wide in 3 by 5 patches."""
    assert patch_at(point, (60, 100), (3, 5)) == patch


@pytest.mark.parametrize("point", [(100, 3), (3, 60), (-1, 3)])
def test_points_outside(point):
    with pytest.raises(
        DataError, match="photograph of 100 by 60 pixels; give x from 0 to 99 and y from 0 to 59"
    ):
        patch_at(point, (60, 100), (3, 5))


def test_cosines_by_hand():
    tokens = torch.tensor([[3.0, 4], [4, 3], [-3, -4], [0, 5], [30, 40], [4, -3]])
    found = patch_similarity(tokens, (2, 3), (1, 1))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.96, -1.0], [0.8, 1.0, 0.0]]))


def test_centring_takes_the_common_part_away():
    tokens = torch.tensor([[100.0, 1], [100, -1], [100, 2], [100, -2]])
    assert patch_similarity(tokens, (2, 2), (0, 0)).min() > 0.99
    found = patch_similarity(tokens, (2, 2), (0, 0), centred=True)
    torch.testing.assert_close(found, torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
