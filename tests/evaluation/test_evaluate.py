import json
import math

import numpy as np
import pytest

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError, DataError
from lexiseg.evaluation.evaluate import evaluate, markdown_table, names_hash
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.types import ClassSplit, Sample
from segmenter_fakes import ColourModel, colour_embeddings, make_segmenter

SPLIT = ClassSplit("colours", ("red", "green", "blue", "white"), unseen=("blue", "white"))


class Stripes:
    """Images red above blue; the label of the last row is ignored."""

    classes = SPLIT.classes

    def __init__(self, count=3, wrong=None):
        self.count, self.wrong = count, wrong

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = np.zeros((16, 24, 3), dtype=np.uint8)
        image[:8, :, 0] = image[8:, :, 2] = 255
        label = np.zeros((16, 24), dtype=np.uint8)
        label[8:] = 2
        label[-1] = 255
        if self.wrong is not None:
            label[0, 0] = self.wrong
        return Sample(image, label, f"stripe {index}")


STRIPE = Stripes()[0]


def make(words=SPLIT.classes, **settings):
    vocabulary = Vocabulary.from_names(words)
    protocol = InferenceProtocol(name="stripes", **settings)
    return make_segmenter(ColourModel(), vocabulary, colour_embeddings(vocabulary), protocol, seen_ids=(0, 1))


def test_scores_and_protocol_lie_side_by_side(tmp_path, caplog):
    report = evaluate(make(seen_penalty=0.05), Stripes(), SPLIT, context={"clip": {"source": "none"}})
    assert report.images == 3
    assert report.scores["seen"] > 0.8
    assert report.scores["unseen"] > 0.8
    assert "no labelled pixel of green, white" in caplog.text
    content = json.loads(report.write(tmp_path / "deep" / "report.json").read_text())
    assert content["scores"]["harmonic"] == report.scores["harmonic"]
    assert content["per_class"]["green"] == {"iou": None, "accuracy": None}
    assert content["protocol"]["seen_penalty"] == 0.05
    assert content["split"]["unseen"] == ["blue", "white"]
    assert content["vocabulary"]["words"] == [["red"], ["green"], ["blue"], ["white"]]
    assert content["vocabulary"]["words_hash"] == names_hash([["red"], ["green"], ["blue"], ["white"]])
    assert content["clip"] == {"source": "none"}
    assert {"python", "torch", "lexiseg"} <= set(content["software"])


def test_limit_is_reported(tmp_path):
    report = evaluate(make(), Stripes(), SPLIT, limit=2)
    assert report.images == 2
    assert report.to_dict()["limit"] == 2


def test_rejected_pixels_count_as_misses():
    settings = {"activation": "linear", "logit_scale": 0.1, "probability_threshold": 0.9}
    report = evaluate(make(**settings), Stripes(), SPLIT)
    assert report.scores["pixel_accuracy"] == 0.0


def test_markdown_shows_percentages_and_gaps():
    report = evaluate(make(), Stripes(), SPLIT)
    table = markdown_table({"ours": report}).splitlines()
    both = "all % | all, absent as 0 % | pixel acc. %"  # no pixel of green
    assert table[0] == f"| | seen % | unseen % | harmonic % | {both} | images |"
    assert table[2].startswith(f"| ours | {100 * report.scores['seen']:.1f} |")
    assert "| green | seen | – | – |" in report.to_markdown()
    assert not math.isnan(report.scores["unseen"])


def test_classes_must_agree():
    with pytest.raises(ConfigError, match="vocabulary has 3 classes, the split 'colours' 4"):
        evaluate(make(("red", "green", "blue")), Stripes(), SPLIT)
    other = ClassSplit("other", ("red", "blue", "green", "white"))
    with pytest.raises(ConfigError, match="differ in number, names or order"):
        evaluate(make(), Stripes(), other)
    with pytest.raises(ConfigError, match="no image to evaluate"):
        evaluate(make(), Stripes(0), SPLIT)


def test_a_label_outside_the_schema_stops():
    with pytest.raises(DataError, match="label id 9 is outside the schema: expected 0 to 3, or 255"):
        evaluate(make(), Stripes(wrong=9), SPLIT)


@pytest.mark.parametrize(
    ("rank", "world", "expected"), [(0, 1, [0, 1, 2, 3, 4]), (0, 2, [0, 2, 4]), (1, 2, [1, 3])]
)
def test_processes_share_the_photographs(rank, world, expected, monkeypatch):
    read, dataset = [], Stripes(count=5)
    monkeypatch.setattr("lexiseg.evaluation.evaluate.place_among_processes", lambda: (rank, world))
    monkeypatch.setattr(Stripes, "__getitem__", lambda self, index: read.append(index) or STRIPE)
    report = evaluate(make(), dataset, SPLIT, images_per_batch=2)
    assert read == expected
    assert report.images == 5
