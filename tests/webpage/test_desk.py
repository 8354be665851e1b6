import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import ConfigError, DataError, LexisegError
from lexiseg.types import Needs
from lexiseg.webpage.desk import (
    MOST_ENCODED,
    MOST_WORDS,
    Desk,
    Question,
    Sitting,
    place_shown,
    shown_size,
)
from webpage_cases import Colours, halves


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def desk():
    return Desk(Colours(), device="cpu")


@pytest.fixture
def sitting():
    sitting = Sitting()
    sitting.show(halves(), "halves")
    return sitting


def test_the_answer_is_the_pipelines_and_other_words_do_not_run_the_tower(desk, sitting):
    question = Question("red, blue; azure", "one", threshold=0.3, refine=2)
    first = desk.ask(sitting, [question])[0]
    expected = desk.readers["one"].segmenter("red, blue; azure", threshold=0.3, refine=2).segment(halves())
    np.testing.assert_array_equal(first.result.labels, expected.labels)
    np.testing.assert_array_equal(first.result.scores, expected.scores)
    encoded = desk.readers["one"].model.encoded
    second = desk.ask(sitting, [replace(question, words="red, green", background="blue", threshold=0.0)])[0]
    assert desk.readers["one"].model.encoded == encoded
    assert (first.encode_ms is None, second.encode_ms is None) == (False, True)
    assert second.names == ["background", "red", "green"]
    assert second.result.id2label[int(second.result.labels[5, 43])] == "background"


def test_two_methods_answer_from_their_encodings(desk, sitting):
    questions = [Question("red, blue", "one"), Question("red, blue", "two")]
    answers = desk.ask(sitting, questions)
    assert [answer.title for answer in answers] == ["one", "two"]
    assert sitting.answers == answers
    again = desk.ask(sitting, questions)
    assert [answer.encode_ms for answer in again] == [None, None]


def test_encodings_are_bounded_and_the_one_not_used_longest_goes(desk, sitting):
    for title in "abcd":
        desk.ask(sitting, [Question("red", title)])
    desk.ask(sitting, [Question("red", "a")])
    desk.ask(sitting, [Question("red", "e")])
    assert [title for title, _ in sitting.encoded] == ["c", "d", "a", "e"]
    assert len(sitting.encoded) == MOST_ENCODED


def test_another_photograph_forgets_everything(desk, sitting):
    desk.ask(sitting, [Question("red, blue", "one", masks="superpixels")])
    name = sitting.name
    sitting.show(halves(23, 29)[:, ::-1].copy(), "mirrored")
    assert not sitting.answers
    assert not sitting.masks
    answer = desk.ask(sitting, [Question("red, blue", "one")])[0]
    assert answer.encode_ms is not None
    assert answer.result.size == (23, 29)
    assert answer.at(11, 2).name == "blue"
    assert sitting.name == name != ""


def test_a_point_tells_every_score_at_its_pixel(desk, sitting):
    answer = desk.ask(sitting, [Question("green, red, blue", "one")])[0]
    whole = answer.segmenter.class_scores(answer.encoded)
    point = answer.at(7, 41)
    assert point.name == "blue"
    assert next(name for name, _ in point.scores) == "blue"
    assert dict(point.scores) == pytest.approx(
        dict(zip(("green", "red", "blue"), whole[:, 7, 41], strict=True))
    )
    assert [score for _, score in point.scores] == sorted((s for _, s in point.scores), reverse=True)
    with pytest.raises(ConfigError, match="no pixel at 47, 7"):
        answer.at(7, 47)


def test_the_map_of_a_word_is_light_where_it_scores_high(desk, sitting):
    answer = desk.ask(sitting, [Question("red, blue", "one")])[0]
    picture, highest = answer.word_map("blue")
    assert highest == pytest.approx(float(answer.segmenter.class_scores(answer.encoded, [1]).max()))
    shown = np.asarray(picture).astype(int).sum(-1)
    assert shown.shape == shown_size(31, 47)
    assert shown[:, -20:].mean() > shown[:, :20].mean() + 200
    with pytest.raises(ConfigError, match="no class 'sky'"):
        answer.word_map("sky")


def test_overlays_are_drawn_at_the_pages_size_in_the_opacity_asked_for(desk, sitting):
    answer = desk.ask(sitting, [Question("red, blue", "one")])[0]
    clear, full = answer.overlay(0.0), answer.overlay(1.0)
    assert clear.shape == full.shape == (*shown_size(31, 47), 3)
    assert len(np.unique(clear[40:90, 40:90].reshape(-1, 3), axis=0)) == 1
    assert not np.array_equal(clear[60, 60], full[60, 60])


@pytest.mark.parametrize(
    ("size", "shown"), [((31, 47), (496, 752)), ((3000, 2000), (1280, 853)), ((900, 1000), (900, 1000))]
)
def test_a_place_on_the_page_is_one_of_the_photograph(size, shown):
    assert shown_size(*size) == shown
    steps = [max(1, own / drawn) for own, drawn in zip(size, shown, strict=True)]
    for corner, expected in (((0, 0), (0, 0)), ((shown[0] - 1, shown[1] - 1), (size[0] - 1, size[1] - 1))):
        for found, right, step in zip(place_shown(*corner, size), expected, steps, strict=True):
            assert abs(found - right) < step
    assert place_shown(shown[0], shown[1], size) == (size[0] - 1, size[1] - 1)
    row, column = place_shown(shown[0] // 2, shown[1] // 3, size)
    assert abs(row - size[0] / 2) <= 1
    assert abs(column - size[1] / 3) <= 1


def test_masks_vote_and_are_made_once(desk, sitting, monkeypatch):
    answer = desk.ask(sitting, [Question("red, blue", "one", masks="superpixels")])[0]
    assert answer.result.mask_classes is not None
    made = sitting.masks["superpixels"]
    desk.ask(sitting, [Question("red, green", "one", masks="superpixels")])
    assert sitting.masks["superpixels"] is made


def test_a_method_that_reads_inside_masks_says_so(desk, sitting):
    desk.readers["inside"].model.needs = Needs(masks=True)
    with pytest.raises(ConfigError, match="inside reads a photograph inside masks; choose some"):
        desk.ask(sitting, [Question("red", "inside")])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"words": "  "}, "the vocabulary is empty"),
        ({"words": "red,,blue"}, "a class name is empty"),
        ({"words": "red, Red"}, "named twice"),
        (
            {"words": ", ".join(map(str, range(MOST_WORDS + 1)))},
            f"up to {MOST_WORDS} classes, and there are 251",
        ),
        ({"threshold": 1.5}, "from 0 to below 1"),
        ({"refine": -1}, "at least 0"),
        ({"refine": 10**9}, "rounds for 1 words on .* are more than is done here"),
        ({"background": "red"}, "no word is left for the background"),
        ({"masks": "../etc"}, "no masks '../etc'"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_answer(desk, sitting, changes, told):
    desk.ask(sitting, [Question("red", "one")])
    with pytest.raises(LexisegError, match=told) as caught:
        desk.ask(sitting, [replace(Question("red", "one"), **changes)])
    assert "\n" not in str(caught.value)
    assert sitting.answers == ()


def test_uploads_are_read_as_strangers(sitting, tmp_path):
    """Named as a harmless format, and huge once decoded: neither a program runs, nor is it decoded."""
    (tmp_path / "harmless.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 11\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(DataError, match="not an image"):
        sitting.show(tmp_path / "harmless.png")
    Image.new("1", (8009, 5003)).save(tmp_path / "huge.png")
    with pytest.raises(DataError, match="5003x8009 pixels .* at most 40000000"):
        sitting.show(str(tmp_path / "huge.png"))


def test_a_broken_photograph_is_refused_and_the_one_before_is_gone(desk, sitting):
    content = io.BytesIO()
    Image.fromarray(halves()).save(content, "PNG")
    with pytest.raises(DataError, match="damaged or cut short"):
        sitting.show(content.getvalue()[:100])
    with pytest.raises(DataError, match="there is no photograph yet"):
        desk.ask(sitting, [Question("red", "one")])
