"""Settings of SAN: lists from a file, and what is refused."""

import pytest

from lexiseg.errors import ConfigError
from lexiseg.models.san_settings import SANSettings


def test_lists_become_tuples():
    settings = SANSettings(fusion=[[0, 0], [3, 2]], decoded=[8])
    assert settings.fusion == ((0, 0), (3, 2))
    assert settings.decoded == (8,)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": 7}, "7 heads do not divide a width of 240"),
        ({"fusion": "0->0"}, "expected a list of lists of 2 whole numbers"),
        ({"fusion": [[0, 0], [3]]}, "expected a list of lists of 2 whole numbers"),
        ({"fusion": [["0", "1"]]}, "expected a list of lists of 2 whole numbers"),
        ({"fusion": [[-1, 0]]}, "expected pairs"),
        ({"fusion": [[0, 9]]}, "no side block 9, only 8"),
        ({"fusion": [[0, 1], [3, 1]]}, "only one CLIP block"),
        ({"fusion": [[10, 1]]}, "CLIP block 10 runs after the shadow tokens join"),
        ({"decoded": []}, "ascending side blocks from 1 to 8"),
        ({"decoded": [8, 7]}, "ascending side blocks from 1 to 8"),
        ({"decoded": [0, 8]}, "ascending side blocks from 1 to 8"),
        ({"decoded": [9]}, "ascending side blocks from 1 to 8"),
        ({"decoded": 8}, "expected a list of whole numbers"),
        ({"resolution": 1.5}, "model.resolution"),
        ({"queries": 0}, "model.queries"),
    ],
    ids=str,
)
def test_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SANSettings(**wrong)
