"""Features that are compared with words tile by tile, against the whole at once."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.dense.multi_view import FusedTiles, MultiView
from lexiseg.ops import class_chunks, pixel_tiles
from lexiseg.ops.class_chunks import HeldMaps, Running, running_argmax
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


@pytest.mark.parametrize("flip", ["none", "vertical"])
def test_a_photograph_is_pulled_once_for_any_number_of_words(flip, monkeypatch):
    monkeypatch.setitem(
        class_chunks.TILE_BYTES, "cpu", 4 * 13 * 8 * 3
    )  # three words of eight rows, two rows of features
    pulled = []

    def counted(features):
        pulled.append(features.shape[0] * features.shape[2])
        return pull(features)

    maps = torch.randn(150, 11, 13, generator=torch.Generator().manual_seed(3))
    words = torch.randn(7, 150, generator=torch.Generator().manual_seed(4))
    views = MultiView(scales=(1.0,), flip=flip)
    sources = [
        ComparedTiles(HeldMaps(maps), 150, pull=counted, words=words)
        for _ in ((1,) if flip == "none" else (1, 2))
    ]
    running = Running.start((11, 13), with_total=False)
    running_argmax(running, FusedTiles(views, sources, size=(11, 13), words=7), words=7)
    assert sum(pulled) == 11 * 13 * len(sources)
