import pytest

from lexiseg.clip.loading import TOY_CLIP, load_clip
from lexiseg.clip.templates import resolve_templates
from lexiseg.dense.methods import build_method
from lexiseg.dense.names import METHODS
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.types import ClassSplit
from lexiseg.webpage.readers import Readers
from segmenter_fakes import colour_pipeline


@pytest.fixture(scope="module")
def first():
    clip = load_clip(TOY_CLIP)
    return Pipeline.training_free(build_method("naclip", clip.tower), clip)


def test_the_one_named_comes_first_and_the_others_are_made_once_on_its_clip(first):
    readers = Readers(first, templates="single")
    assert readers.titles[0] == readers.default == "naclip"
    assert sorted(readers.titles) == sorted(
        set(METHODS) - {"proxyclip", "corrclip", "trident", "groupvit", "sam3"}
    )
    assert readers["naclip"] is readers.first is first
    made = readers["maskclip"]
    assert made is readers["maskclip"]
    assert made.clip is first.clip
    assert made.method["name"] == "maskclip"
    assert made.templates == resolve_templates("single") != first.templates


def test_a_second_model_that_is_named_brings_the_methods_that_take_one(first):
    given = {"proxy": "folder/of/dino", "sam": "folder/of/sam"}
    assert {"proxyclip", "corrclip", "trident"} < set(Readers(first, settings=given).titles)
    assert "trident" not in Readers(first, settings={"proxy": "folder/of/dino"}).titles


def test_a_method_that_is_not_there(first):
    with pytest.raises(ConfigError, match="no method 'maskclipp'; did you mean maskclip"):
        Readers(first)["maskclipp"]


def test_a_trained_model_is_called_by_its_run_and_may_stand_alone():
    trained = colour_pipeline(InferenceProtocol(), ClassSplit("two", ("red", "blue"), ("blue",)))
    readers = Readers(trained, checkpoint="runs/mine/best.ckpt")
    assert readers.titles == ("trained: mine",)
    assert readers["trained: mine"] is trained
