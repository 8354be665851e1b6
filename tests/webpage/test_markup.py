import numpy as np
import pytest

from lexiseg.clip.loading import TOY_CLIP, load_clip
from lexiseg.drawing.palette import class_colours
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.inference.result import Segmentation
from lexiseg.types import ClassSplit
from lexiseg.webpage.desk import Answer, Point
from lexiseg.webpage.markup import about, legend, notice, point, times
from segmenter_fakes import ColourModel, colour_pipeline

NAMES = {0: "dog", 1: "<b>cat</b>", 2: "sky", 3: "(no class)"}


def answer(**kwargs):
    labels = np.array([[0, 0, 0, 1, 3]], dtype=np.uint8)
    scores = np.array([[0.5, 0.7, 0.6, 0.25, 0.1]], dtype=np.float32)
    result = Segmentation(labels, scores, NAMES, unseen=("<b>cat</b>",))
    return Answer(
        "maskclip", result, encoded=None, segmenter=None, **{"encode_ms": 12.4, "words_ms": 3.6, **kwargs}
    )


def test_a_legend_has_a_row_for_each_class_and_escapes_its_name():
    told = legend(answer())
    assert told.index("dog") < told.index("&lt;b&gt;cat") < told.index("(no class)")
    assert "60.0 %</td><td>0.60" in told
    assert "<b>" not in told
    assert told.count("ls-hatched") == told.count("<small>unseen</small>") == 1
    assert "Nowhere: sky" in told
    colours = class_colours(["dog", "<b>cat</b>", "sky"])
    for colour in colours[:2]:
        assert "background-color:#{:02x}{:02x}{:02x}".format(*colour) in told


def test_a_point_tells_word_scores_and_place():
    there = Point(3, 5, "dog", (("dog", 0.75), ("<b>cat</b>", 0.2), ("sky", 0.05)))
    told = point([answer()], [there])
    assert "<h3>dog <small>maskclip, pixel 5, 3" in told
    assert "width:75.0%" in told
    assert told.index("0.750") < told.index("0.200") < told.index("0.050")
    assert "<b>" not in told


def test_times_say_what_was_encoded_before():
    told = times([answer(), answer(encode_ms=None)])
    assert "maskclip: encode 12 ms · words 4 ms" in told
    assert "maskclip: encoded before · words 4 ms" in told


def test_notices_are_escaped_and_nothing_is_no_notice():
    assert notice("") == ""
    assert "&lt;script&gt;" in notice("<script>")
    assert 'role="alert"' in notice("no")
    assert 'role="status"' in notice("so", "hint")


def test_the_page_says_which_clip_and_what_it_knows():
    protocol = InferenceProtocol(activation="linear")
    toy = about(Pipeline(ColourModel(), load_clip(TOY_CLIP), protocol, "plain"))
    assert "<strong>toy</strong>" in toy
    assert "cobblestones" in toy
    assert "says nothing about photographs" in toy
    split = ClassSplit("two", ("red", "blue"), ("blue",))
    trained = about(colour_pipeline(InferenceProtocol(), split))
    assert "<strong>colours</strong>" in trained
    assert "labels for <em>red</em>, and without any for <em>blue</em>" in trained
    assert "toy" not in trained


@pytest.mark.parametrize("names", [("a",), tuple(f"w{index}" for index in range(31))])
def test_a_long_legend_ends_in_a_sum(names):
    labels = np.arange(len(names), dtype=np.uint8)[None]
    result = Segmentation(labels, None, dict(enumerate(names)))
    told = legend(Answer("one", result, encoded=None, segmenter=None, encode_ms=None, words_ms=1.0))
    assert ("and 7 more" in told) == (len(names) == 31)
    assert told.count("ls-swatch") == min(len(names), 24)
