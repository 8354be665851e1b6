"""Features that are compared with words tile by tile, against the whole at once."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops import pixel_tiles
from lexiseg.ops.class_chunks import HeldMaps
from lexiseg.ops.pixel_tiles import ComparedTiles

FEATURES = torch.randn(5, 11, 13, generator=torch.Generator().manual_seed(1))
WORDS = torch.randn(7, 5, generator=torch.Generator().manual_seed(2))


def pull(features):
    """Of rows ``(R, E, C)``; looks at all channels of a pixel."""
    return F.normalize(features, dim=1)


@pytest.mark.parametrize("tiles", [4, 0])
def test_tiles_are_parts_of_the_whole(tiles, monkeypatch):
    monkeypatch.setattr(pixel_tiles, "_TILES", tiles)
    whole = 3.0 * torch.einsum("me,erc->rmc", WORDS, F.normalize(FEATURES, dim=0))
    source = ComparedTiles(HeldMaps(FEATURES), 5, pull=pull, words=WORDS, scale=3.0)
    for rows in (slice(0, 11), slice(2, 9)):
        for columns in (slice(0, 13), slice(3, 5)):
            for words in (slice(0, 7), slice(4, 6)):
                expected = whole[rows, words, columns]
                torch.testing.assert_close(source.tile(rows, columns, words), expected)


def test_further_words_of_a_tile_find_its_features_there():
    asked = []
    source = ComparedTiles(
        HeldMaps(FEATURES), 5, pull=lambda features: asked.append(1) or pull(features), words=WORDS
    )
    for words in (slice(0, 3), slice(3, 7)):
        source.tile(slice(0, 11), slice(0, 13), words)
    assert len(asked) == 1
    source.tile(slice(0, 11), slice(0, 12), slice(0, 3))
    assert len(asked) == 2
