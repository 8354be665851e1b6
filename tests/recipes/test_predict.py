"""One photograph segmented and kept from Python, with and without masks."""

import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import DataError
from lexiseg.inference.given_masks import GivenMasks
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.predict import Prediction
from lexiseg.recipes.result_formats import ResultFormats
from segmenter_fakes import ColourModel, colour_embeddings


class Clip:
    source = "toy"


@pytest.fixture
def segmenter(monkeypatch):
    monkeypatch.setattr(Vocabulary, "embed", lambda self, clip, cache=None: colour_embeddings(self))
    return Pipeline(ColourModel(), Clip(), InferenceProtocol(), ("{}",)).segmenter("red, blue")


@pytest.fixture
def photo(tmp_path):
    """A third red, the rest blue."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :8, 0], pixels[:, 8:, 2] = 255, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return Photograph(tmp_path / "a.png", "a", pixels)


def test_what_is_kept_is_what_was_found(segmenter, photo, tmp_path):
    result = Prediction(segmenter, tmp_path / "out", overlay=False, score_png=True).keep(photo)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.json", "a_labels.png", "a_scores.png"]
    with Image.open(tmp_path / "out" / "a_labels.png") as image:
        assert (np.asarray(image) == result.labels).all()
    assert result.describe() == "blue 66.7 %, red 33.3 %"


def test_masks_vote_and_are_told(segmenter, photo, tmp_path):
    ids = np.zeros((16, 24), np.uint8)
    ids[:8] = 5
    (tmp_path / "masks").mkdir()
    Image.fromarray(ids).save(tmp_path / "masks" / "a.png")
    prediction = Prediction(segmenter, tmp_path / "out", GivenMasks(tmp_path / "masks"))
    assert (prediction.keep(photo).labels[:8] == 1).all()
    told = json.loads((tmp_path / "out" / "a.json").read_text())
    assert told["protocol"]["masks"] == str(tmp_path / "masks" / "a.png")
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(DataError, match="no file at"):
        prediction.keep(photo)


def test_formats_beside_or_instead_of_labels(segmenter, photo, tmp_path):
    formats = ResultFormats.read("geojson,probabilities")
    prediction = Prediction(segmenter, tmp_path / "out", overlay=False, formats=formats)
    with prediction.keeping(1):
        result = prediction.keep(photo)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_probabilities.npz", "geojson"]
    with np.load(tmp_path / "out" / "a_probabilities.npz") as told:
        assert (told["probabilities"].argmax(0) == result.labels).all()
    plain = Prediction(segmenter, tmp_path, overlay=False).keep(photo)
    assert (plain.labels == result.labels).all()
    assert np.allclose(plain.scores, result.scores)
