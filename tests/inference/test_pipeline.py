"""The one object that makes segmenters: every rule it owns, at every door, from many threads."""

import ast
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lexiseg
from lexiseg.checkpoints.info import CheckpointInfo
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.inference import encoding
from lexiseg.inference.encoding import WindowEncoder
from lexiseg.inference.pipeline import Pipeline, segment
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.masks.superpixels import Superpixels
from lexiseg.progress import Doing
from lexiseg.types import ClassSplit
from segmenter_fakes import ColourClip, ColourModel, colour_pipeline

SPLIT = ClassSplit("two", ("red", "blue", "green"), ("green",))
PROTOCOL = InferenceProtocol(short_side=22, window=13, stride=7, logit_scale=3.0, seen_penalty=0.2)
TEMPLATES = ("old {}", "{} wall by night")
WORDS = "red; scarlet, green, white"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pipeline():
    return colour_pipeline(PROTOCOL, SPLIT, TEMPLATES)


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (31, 47, 3), dtype=np.uint8)


def equal(one, other):
    return np.array_equal(one.labels, other.labels) and one.id2label == other.id2label


@pytest.mark.parametrize(
    "words",
    [
        WORDS,
        "red; scarlet\ngreen\nwhite",
        [["red", "scarlet"], "green", ("white",)],
        ["red; scarlet", "green", "white"],
        Vocabulary.from_text(WORDS),
        Vocabulary.from_text(WORDS, TEMPLATES),
    ],
    ids=["text", "lines", "groups", "list", "vocabulary", "its own templates"],
)
def test_the_same_words_in_every_form(pipeline, words):
    segmenter = pipeline.segmenter(words)
    assert segmenter.vocabulary == Vocabulary.from_text(WORDS, TEMPLATES)
    assert segmenter.seen_ids == (0,)
    assert equal(segmenter.segment(noise()), pipeline.segmenter(WORDS).segment(noise()))


def test_a_list_and_the_classes_of_training(pipeline):
    assert pipeline.segmenter(["white", "blue"]).vocabulary.words == (("white",), ("blue",))
    own, judged = pipeline.segmenter(), pipeline.segmenter(SPLIT)
    assert own.vocabulary == judged.vocabulary == Vocabulary.from_names(SPLIT.classes, TEMPLATES)
    assert own.seen_ids == judged.seen_ids == (0, 1)
    with pytest.raises(ConfigError, match="does not say which classes it was trained on; name some words"):
        colour_pipeline(PROTOCOL).segmenter()


@pytest.mark.parametrize("words", [5, {"red": ["scarlet"]}, ["red", 7]])
def test_what_is_no_list_of_words(pipeline, words):
    with pytest.raises(
        ConfigError, match='words: expected text such as "dog; puppy, grass", or a list of names'
    ):
        pipeline.segmenter(words)


def test_only_an_encoded_photograph_is_read_again(pipeline):
    with pytest.raises(
        ConfigError, match="expected what Segmenter.encode gave, got str; encode the photograph first"
    ):
        pipeline.segmenter(WORDS).segment_encoded("photo.jpg")


def test_templates_that_came_with_the_words_stay(pipeline):
    given = pipeline.segmenter(Vocabulary.from_text(WORDS, "single"))
    assert given.vocabulary.templates == "single"
    assert not np.array_equal(
        given.embeddings.vectors.numpy(), pipeline.segmenter(WORDS).embeddings.vectors.numpy()
    )
    assert given.with_words("white").vocabulary.templates == "single", "and other words are spoken in them"
    assert pipeline.templates == TEMPLATES


def test_windows_count_as_soon_as_they_are_read(pipeline, monkeypatch):
    layout = pipeline.segmenter(WORDS).encode(noise()).layout
    work = Doing("reading windows")
    monkeypatch.setattr(encoding, "doing", lambda description, total: nullcontext(work))
    encoder = WindowEncoder(ColourModel(), window_batch=5, precision="float32")
    counts = []
    for batch in encoder.encode([noise()], [layout]):
        counts.append((work.done, len(batch.places)))
    assert len(counts) > 1
    assert counts[0] == (5, 5)


def test_other_words_keep_every_rule(pipeline):
    """Penalty, templates, background and threshold, whichever way the words are changed."""
    rules = {"background": "black, grey", "threshold": 0.55}
    expected = pipeline.segmenter(WORDS, **rules).segment(noise())
    first = pipeline.segmenter("blue, yellow", **rules)
    encoded = first.encode(noise())
    assert equal(first.segment_encoded(encoded, WORDS), expected)
    assert equal(first.with_words(WORDS).segment(noise()), expected)
    assert first.vocabulary.names == ("background", "blue", "yellow"), "and the segmenter keeps its own"
    first.set_classes(WORDS)
    assert equal(first.segment(noise()), expected)
    for changed in (
        replace(pipeline, protocol=replace(PROTOCOL, seen_penalty=0.0)).segmenter(WORDS, **rules),
        replace(pipeline, templates="single").segmenter(WORDS, **rules),
        pipeline.segmenter(WORDS, threshold=0.55),
        pipeline.segmenter(WORDS, background="black, grey"),
    ):
        assert not equal(changed.segment(noise()), expected), "every rule must matter here"


def test_the_background_is_said_once(pipeline):
    made = pipeline.segmenter("red, white", background=["black", "red", "grey"])
    assert made.vocabulary.words[0] == ("background", "black", "grey")
    assert made.protocol.background == "class"
    assert made.seen_ids == (1,), "class 0 bears no penalty: training had no label of its words"
    already = pipeline.segmenter("background; black; grey, red, white", background=True)
    assert already.protocol.background == "class"
    assert np.array_equal(already.segment(noise()).labels, made.segment(noise()).labels)
    by_protocol = replace(pipeline, protocol=replace(PROTOCOL, background="class"))
    assert by_protocol.segmenter("red").protocol.background == "class"
    assert by_protocol.segmenter("red", background=False).protocol.background == "none"
    assert pipeline.segmenter("red").protocol.background == "none"


def test_a_background_word_that_was_trained_bears_its_penalty(pipeline):
    assert pipeline.segmenter("white", background="blue, black").seen_ids == (0,)


def test_settings_of_one_segmenter(pipeline):
    assert pipeline.segmenter("red", refine=True).protocol.pamr_steps == 10
    assert pipeline.segmenter("red", refine=False).protocol.pamr_steps == 0
    assert pipeline.segmenter("red", refine=3).protocol.pamr_steps == 3
    assert pipeline.segmenter("red", threshold=0.4).protocol.probability_threshold == 0.4
    with pytest.raises(ConfigError, match="probability_threshold: expected from 0 to below 1, got 1.4"):
        pipeline.segmenter("red", threshold=1.4)


def test_masks_of_a_provider_vote(pipeline):
    maker = Superpixels(regions=(5,))
    voting, image = pipeline.segmenter(WORDS, masks=maker), noise()
    expected = pipeline.segmenter(WORDS).segment(image, masks=maker(image).arrays())
    assert equal(voting.segment(image), expected)
    assert equal(voting.with_words(WORDS).segment_encoded(voting.encode(image)), expected)
    assert not equal(pipeline.segmenter(WORDS).segment(image), expected)
    none = np.zeros((0, 31, 47), dtype=bool)
    assert equal(voting.segment(image, masks=none), pipeline.segmenter(WORDS).segment(image)), (
        "masks that are given win"
    )


LISTS = ("red, green", "blue; white, black, green", "white, red", "black, yellow, blue, green, red")


def test_threads_share_a_pipeline_and_a_segmenter(pipeline):
    """Each call answers with its own words, whatever others ask for meanwhile."""
    image, shared = noise(4), pipeline.segmenter("green")
    expected = {
        words: colour_pipeline(PROTOCOL, SPLIT, TEMPLATES).segmenter(words).segment(image) for words in LISTS
    }
    encoded = shared.encode(image)
    doors = (
        lambda words: pipeline.segmenter(words).segment(image),
        lambda words: shared.with_words(words).segment(image),
        lambda words: shared.segment_encoded(encoded, words),
    )
    tasks = [(door, words) for _ in range(6) for words in LISTS for door in doors]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda task: task[0](task[1]), tasks))
    assert all(equal(found, expected[words]) for found, (_, words) in zip(results, tasks, strict=True))
    assert shared.vocabulary.names == ("green",)


def test_words_that_change_while_a_photograph_is_read(pipeline):
    """Labels, names and penalties of one answer belong to one list of words."""
    segmenter = pipeline.segmenter(WORDS)
    expected = segmenter.segment(noise())
    decode = segmenter.model.decode
    segmenter.model.decode = lambda *a: segmenter.set_classes("black, blue") or decode(*a)
    assert equal(segmenter.segment(noise()), expected)
    assert segmenter.vocabulary.names == ("black", "blue")


def test_a_method_and_a_checkpoint_exclude_each_other():
    with pytest.raises(ConfigError, match="either a checkpoint or a training-free method"):
        Pipeline.load("some.ckpt", method="sclip")


def test_nobody_else_makes_segmenters():
    makers = []
    for path in Path(lexiseg.__file__).parent.rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        makers += [
            path.name for call in calls if getattr(call, "id", getattr(call, "attr", "")) == "Segmenter"
        ]
    assert makers == ["pipeline.py"]


def test_a_trained_model_speaks_and_decides_as_it_was_trained():
    info = CheckpointInfo({}, {}, TEMPLATES, SPLIT, PROTOCOL.to_dict())
    trained = Pipeline.trained(ColourModel(), ColourClip(), info)
    assert trained.templates == TEMPLATES
    assert trained.protocol == PROTOCOL
    assert trained.segmenter(WORDS).vocabulary == Vocabulary.from_text(WORDS, TEMPLATES)


def test_masks_at_the_one_call(pipeline, tmp_path, monkeypatch):
    """Masks that are missing are told before any model is looked for; a provider's name and its masks are the same."""
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match="corrclip reads a photograph inside masks, and got none"):
        segment(noise(), WORDS, clip="toy", method="corrclip")
    with pytest.raises(ConfigError, match="expected a folder holding"):
        segment(noise(), WORDS, clip="toy", method="lavg", masks=tmp_path / "gone")
    monkeypatch.setattr(Pipeline, "load", lambda *_, **__: pipeline)
    image, arrays = noise(), Superpixels(regions=(48,))(noise()).arrays()
    found = segment(image, WORDS, masks="superpixels")
    assert equal(found, segment(image, WORDS, masks=arrays))
    assert equal(found, pipeline.segmenter(WORDS, masks="superpixels").segment(image))
    assert not equal(found, segment(image, WORDS))


@pytest.mark.parametrize(
    "ask",
    [
        lambda given: segment(noise(), WORDS, clip="toy", settings=given),
        lambda given: Pipeline.load(clip="toy", settings=given),
    ],
)
def test_settings_that_are_no_mapping_end_in_a_sentence(ask):
    with pytest.raises(ConfigError, match=r"settings: expected values by name .*, got \['a'\]"):
        ask(["a"])
