"""Probabilities of all classes, against the scores of the winning one."""

from dataclasses import replace

import numpy as np
import pytest

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import DataError
from lexiseg.inference.probabilities import Probabilities, require_holdable
from lexiseg.inference.protocol import InferenceProtocol
from segmenter_fakes import ColourModel, RegionsOfColour, colour_embeddings, make_segmenter


def photograph():
    blocks = np.random.default_rng(5).integers(0, 256, (5, 7, 3))
    return np.kron(blocks, np.ones((9, 8, 1))).astype(np.uint8)[:43, :53]


def segmenter(model, words="red; blue, green, black", **changes):
    vocabulary = Vocabulary.from_text(words)
    return make_segmenter(model, vocabulary, colour_embeddings(vocabulary), InferenceProtocol(**changes))


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (ColourModel(), {"activation": "linear", "logit_scale": 3.0}),
        (ColourModel(), {"activation": "linear", "window": 24, "stride": 16}),
        (ColourModel(), {"activation": "sigmoid"}),
        (ColourModel(), {"pamr_steps": 2, "pamr_dilations": (1, 2)}),
        (RegionsOfColour(), {"activation": "scores"}),
    ],
)
def test_the_best_is_the_label_and_its_score(model, changes):
    made = segmenter(model, **changes)
    encoded = made.encode(photograph())
    result, found = made.segment_encoded(encoded), made.probabilities(encoded)
    assert found.maps.shape == (3, 43, 53)
    assert found.maps.dtype == np.float16
    chosen = np.take_along_axis(found.maps, result.labels[None].astype(int), axis=0)[0]
    assert (chosen >= found.maps.max(0)).mean() > 0.99  # float16 knows more draws
    assert np.allclose(chosen, result.scores, atol=1e-3)
    ordered = np.sort(found.maps.astype(np.float32), axis=0)
    assert np.allclose(found.margin, ordered[-1] - ordered[-2], atol=1e-3)
    assert len(np.unique(found.margin)) > 5


def test_without_synonyms_they_add_up_to_one_and_rules_of_labels_do_not_count():
    made = segmenter(ColourModel(), "red, green, blue, black", activation="linear", probability_threshold=0.9)
    found = made.probabilities(made.encode(photograph()))
    assert np.allclose(found.maps.astype(np.float32).sum(0), 1, atol=2e-3)
    made.protocol = replace(made.protocol, probability_threshold=0.0)
    assert (made.probabilities(made.encode(photograph())).maps == found.maps).all()


def test_of_one_class_the_margin_is_its_own():
    made = segmenter(ColourModel(), "red", activation="sigmoid")
    found = made.probabilities(made.encode(photograph()))
    assert (found.margin == found.maps[0]).all()


def test_the_file(tmp_path):
    maps = np.random.default_rng(0).random((3, 5, 7)).astype(np.float16)
    path = Probabilities(maps, {0: "a, b", 1: "c\nd", 2: "e"}).save(tmp_path / "new" / "a.npz")
    with np.load(path) as told:
        assert (told["probabilities"] == maps).all()
        assert told["margin"].shape == (5, 7)
        assert told["names"].tolist() == ["a, b", "c\nd", "e"]
    assert [each.name for each in path.parent.iterdir()] == ["a.npz"]


def test_too_many_are_refused():
    require_holdable(150, (4000, 6000))
    with pytest.raises(DataError, match="probabilities of 847 classes at 4000x6000 pixels take 38 GiB"):
        require_holdable(847, (4000, 6000))
