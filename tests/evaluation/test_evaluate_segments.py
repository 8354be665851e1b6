"""Segments judged on data that tell things apart, and on data that do not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.evaluation.evaluate_segments import evaluate_segments
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import EmbeddedWords
from lexiseg.segments import NO_SEGMENT, Segments
from lexiseg.types import ClassSplit, Sample
from segmenter_fakes import RegionsOfColour, colour_embeddings

WORDS = Vocabulary.from_text("red, green, blue, black", "plain")
SPLIT = ClassSplit("colours", ("red", "green", "blue", "black"), unseen=("blue",))


class Found:
    """The segmenter's own answer as truth: what it finds is what is there."""

    classes = SPLIT.classes
    stuff = ("green", "black")

    def __init__(self, segmenter, *, told_apart=True):
        self.segmenter, self.told_apart = segmenter, told_apart

    def __len__(self):
        return 3

    def __getitem__(self, index):
        blocks = np.random.default_rng(index).integers(0, 2, (3, 4, 3)) * 255
        image = np.kron(blocks, np.ones((16, 16, 1))).astype(np.uint8)[: 48 - index]
        found = self.segmenter.panoptic(image, stuff=self.stuff)
        label = found.class_map()
        label[label == len(self.classes)] = 255
        segments = Segments(
            np.where(found.ids > 0, found.ids - 1, NO_SEGMENT).astype(np.uint16),
            np.array([segment.class_id for segment in found.segments], np.int64),
            np.array([segment.thing for segment in found.segments], bool),
            np.zeros(len(found.segments), bool),
        )
        return Sample(image, label.astype(np.uint8), f"{index}", segments if self.told_apart else None)


@pytest.fixture
def segmenter():
    words = EmbeddedWords(WORDS, colour_embeddings(WORDS))
    return Segmenter(RegionsOfColour(), words, InferenceProtocol(activation="scores"))


def test_what_is_found_as_it_is_scores_one(segmenter, tmp_path):
    report = evaluate_segments(segmenter, Found(segmenter), SPLIT, "panoptic")
    assert report.scores["pq"] == report.scores["sq"] == 1.0
    assert report.settings["segments"] == {
        "kind": "panoptic", "stuff": ["black", "green"], "truth": "things as labelled",
    }  # fmt: skip
    told = json.loads(report.write(tmp_path / "told.json").read_text())
    assert told["scores"]["pq"] == 1.0
    assert told["images"] == 3
    assert told["split"]["unseen"] == ["blue"]
    assert told["protocol"]["overlap_threshold"] == 0.8
    assert told["per_class"].keys() == set(SPLIT.classes)
    lines = report.to_markdown().splitlines()
    assert lines[0].startswith(
        "| | PQ % | SQ % | RQ % | PQ things % | PQ stuff % | seen % | unseen % | images |"
    )
    assert any(line.startswith("| blue | unseen | ") for line in lines)


def test_things_one_by_one(segmenter):
    report = evaluate_segments(segmenter, Found(segmenter), SPLIT, "instances", limit=2)
    assert report.images == 2
    assert report.settings["limit"] == 2
    assert 0.3 < report.scores["ap"] <= 1
    assert report.scores["ap50"] >= report.scores["ap"]
    assert report.result.per_class.keys() == {"red", "blue"}
    assert "| AP % | AP50 % |" in report.to_markdown()


def test_connected_pieces_where_things_are_not_told_apart(segmenter):
    apart = evaluate_segments(segmenter, Found(segmenter), SPLIT, "panoptic")
    pieces = evaluate_segments(segmenter, Found(segmenter, told_apart=False), SPLIT, "panoptic")
    assert pieces.settings["segments"]["truth"] == "things are connected pieces of at least 32 pixels"
    assert pieces.scores["stuff"] == apart.scores["stuff"] == 1.0
    assert pieces.scores["things"] < apart.scores["things"], (
        "a region of several pieces is several things there"
    )


def test_stuff_of_the_caller_wins_and_has_to_be_told_somewhere(segmenter):
    data = Found(segmenter)
    report = evaluate_segments(segmenter, data, SPLIT, "panoptic", stuff=["Red"])
    assert report.settings["segments"]["stuff"] == ["red"]
    silent = Found(segmenter)
    silent.stuff = None
    with pytest.raises(ConfigError, match=r"stuff=\[sky,road\]"):
        evaluate_segments(segmenter, silent, SPLIT, "panoptic")
    with pytest.raises(ConfigError, match="'sky' is none of the classes"):
        evaluate_segments(segmenter, data, SPLIT, "panoptic", stuff=["sky"])
    with pytest.raises(ConfigError, match="limit"):
        evaluate_segments(segmenter, data, SPLIT, "panoptic", limit=0)
    segmenter.protocol = replace(segmenter.protocol, seen_penalty=0.1)
    with pytest.raises(ConfigError, match=r"protocol\.seen_penalty"):
        evaluate_segments(segmenter, data, SPLIT, "panoptic")
