"""A picture labelled piece by piece is the picture labelled whole, in every pixel."""

from dataclasses import replace

import numpy as np
import pytest

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.dense.multi_view import MultiView
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.sliding_window import window_grid
from lexiseg.ops.window_tiles import window_tiles
from segmenter_fakes import ColourModel, colour_embeddings, make_segmenter

SIGMOID = InferenceProtocol(window=13, stride=7, logit_scale=5.0)
LINEAR = replace(SIGMOID, activation="linear", stride=5)


def make(protocol):
    vocabulary = Vocabulary.from_text("red, green; lime, blue")
    return make_segmenter(ColourModel(), vocabulary, colour_embeddings(vocabulary), protocol)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def in_pieces(segmenter, image, side):
    protocol, size = segmenter.protocol, image.shape[:2]
    labels = np.full(size, 255, dtype=np.uint8)
    for tile in window_tiles(size, window_grid(size, protocol.window, protocol.stride), side):
        piece = segmenter.segment_piece(image[tile.read_rows, tile.read_columns], tile.after)
        labels[tile.rows, tile.columns] = piece.labels[tile.inside]
    return labels


@pytest.mark.parametrize("size", [(61, 97), (11, 89)])
@pytest.mark.parametrize(
    "protocol",
    [
        SIGMOID,
        LINEAR,
        replace(LINEAR, probability_threshold=0.5),
        replace(SIGMOID, padding="centre", background="class", probability_threshold=0.5),
    ],
)
def test_pieces_are_the_whole(protocol, size):
    segmenter, image = make(protocol), noise(*size)
    whole = segmenter.segment(image, scores=False).labels
    assert len(np.unique(whole)) > 2
    assert np.array_equal(in_pieces(segmenter, image, 23), whole)


def test_sums_are_cut_where_those_of_the_whole_are():
    """Beyond 128 patches along an axis the whole cuts its sums; scores of a piece keep the same bits."""
    segmenter, image = make(replace(LINEAR, window=17, stride=3)), noise(19, 131)
    size, grid = image.shape[:2], window_grid((19, 131), 17, 3)
    whole = segmenter.class_scores(segmenter.encode(image))
    for tile in window_tiles(size, grid, 29):
        piece = image[tile.read_rows, tile.read_columns]
        encoded = segmenter.encode(piece)
        windows = (replace(encoded.layout.windows[0], after=tile.after),)
        encoded = replace(encoded, layout=replace(encoded.layout, windows=windows))
        scores = segmenter.class_scores(encoded)
        assert np.array_equal(scores[:, *tile.inside], whole[:, tile.rows, tile.columns])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pamr_steps": 3}, "--refine"),
        ({"area_threshold": 0.1}, "area_threshold"),
        ({"views": MultiView(scales=(0.5, 1.0))}, "--scales 1"),
        ({"short_side": 20}, "--scale native"),
        ({"window": None, "stride": None}, "read whole"),
    ],
)
def test_what_needs_the_whole_picture_is_refused(change, told):
    with pytest.raises(ConfigError, match=told):
        make(replace(SIGMOID, **change)).segment_piece(noise(31, 37), (0, 0))


def test_the_toy_clip_in_pieces():
    pipeline = Pipeline.load(clip="toy")
    pipeline = replace(pipeline, protocol=replace(pipeline.protocol, short_side=None))
    segmenter = pipeline.segmenter("red circle, bricks, grass, blue square", threshold=0.3)
    image = noise(149, 211)
    image[:71, :97], image[71:, 97:] = (200, 30, 30), (40, 160, 60)
    whole = segmenter.segment(image, scores=False).labels
    assert len(np.unique(whole)) > 1
    assert np.array_equal(in_pieces(segmenter, image, 67), whole)
