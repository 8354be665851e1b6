"""The task of transformers' own ``pipeline``."""

import numpy as np
import pytest
import transformers
from PIL import Image

import lexiseg
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from segmenter_fakes import ColourModel, colour_embeddings

TASK = "zero-shot-image-segmentation"


class Clip:
    source = "toy"


@pytest.fixture
def ours(monkeypatch):
    monkeypatch.setattr(Vocabulary, "embed", lambda self, clip, cache=None: colour_embeddings(self))
    lexiseg.register_task()
    lexiseg.register_task()
    return Pipeline(ColourModel(), Clip(), InferenceProtocol(), ("{}",))


@pytest.fixture
def image(tmp_path):
    """A third red, the rest blue."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :8, 0], pixels[:, 8:, 2] = 255, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_label_score_and_mask(ours, image):
    task = transformers.pipeline(TASK, model=ours)
    expected = ours.segmenter("red, blue").segment(image).to_hf()
    for given in (str(image), Image.open(image)):
        found = task(given, candidate_labels=["red", "blue"])
        assert [(each["label"], each["score"]) for each in found] == [
            (each["label"], each["score"]) for each in expected
        ]
        assert [np.asarray(each["mask"]).mean() for each in found] == pytest.approx([170, 85])
    several = task([str(image)] * 2, candidate_labels="red, blue")
    assert [[each["label"] for each in one] for one in several] == [["blue", "red"]] * 2
    assert "ZeroShotSegmentation" in repr(task)


def test_words_can_be_said_once_and_pixels_of_no_class_are_not_told(ours, image):
    task = transformers.pipeline(TASK, model=ours, candidate_labels=["red", "black"])
    scores = {each["label"]: each["score"] for each in task(str(image))}
    assert scores["black"] < scores["red"]
    assert [each["label"] for each in task(str(image), threshold=scores["red"] - 0.01)] == ["red"]


def test_mistakes(ours, image):
    with pytest.raises(ConfigError, match="candidate_labels are missing"):
        transformers.pipeline(TASK, model=ours)(str(image))
    with pytest.raises(ConfigError, match="expected what lexiseg.Pipeline.load gave, got ColourModel"):
        transformers.pipeline(TASK, model=ColourModel())
    with pytest.raises(ConfigError, match="the model lies on cpu"):
        transformers.pipeline(TASK, model=ours, device="meta")
