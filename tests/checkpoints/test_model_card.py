"""The model card: metadata that the hub reads, and a text that says what was measured and how."""

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from hostile import small_checkpoint
from lexiseg.checkpoints.model_card import model_card
from lexiseg.checkpoints.model_facts import MeasuredScores, ModelFacts
from lexiseg.checkpoints.training_file import read_info
from lexiseg.types import ClassSplit

SCORES = {"seen": 0.4084, "unseen": 0.279, "pixel_accuracy": 0.5}


@pytest.fixture(scope="module")
def info():
    return read_info(small_checkpoint(), "x")


def write(info, facts=None, **changes):
    settings = {"name": "somebody/model", "parameters": 1234567, "bundled": True} | changes
    return model_card(info, facts or ModelFacts(), **settings)


def test_metadata(info):
    measured = MeasuredScores(SCORES, info.protocol, "small", "PascalVOC", 60)
    info = replace(info, clip=info.clip | {"source": "openai/clip-vit-base-patch16"})
    facts = ModelFacts("mit", "apache-2.0", measured, ("somebody/voc", "other/context"))
    data = ModelCard(str(write(info, facts))).data
    assert data.library_name == "lexiseg"
    assert data.pipeline_tag == "image-segmentation"
    assert data.license == "mit"
    assert data.datasets == ["somebody/voc", "other/context"]
    assert data.metrics == ["accuracy", "mean_iou"]
    assert data.base_model == "openai/clip-vit-base-patch16"
    assert {"lexiseg", "zero-shot", "cascade-clip"} <= set(data.tags)
    assert data.model_name == "somebody/model"
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found == {
        "mIoU, seen classes (%)": 40.84,
        "mIoU, unseen classes (%)": 27.9,
        "pixel accuracy (%)": 50.0,
    }
    assert {result.dataset_name for result in data.eval_results} == {"PascalVOC (small)"}


def test_nothing_is_claimed_that_nobody_said(info):
    card = write(info)
    assert card.data.license == "unknown"
    assert card.data.base_model is None
    assert card.data.eval_results is None
    assert card.data.datasets is None
    assert card.data.metrics is None
    assert "None were recorded with this checkpoint" in card.text
    assert "Trained weights: unknown. CLIP weights (ships with lexiseg): unknown." in card.text


def test_split_and_scores_in_words(info):
    measured = MeasuredScores(SCORES, info.protocol, "small", images=60, limited=True)
    text = write(info, ModelFacts(measured=measured)).text
    assert "**2 seen**: bricks, red circle" in text
    assert "**1 unseen**: blue square" in text
    assert "Unseen names were unknown in training." in text
    assert "| mIoU, seen classes | 40.8 |" in text
    assert "harmonic" not in text
    assert "As measured by lexiseg eval, split `small`, 60 images (the first of the data set only)" in text
    assert text.count('"seen_penalty": 0.1') == 1, "one protocol, shown once"
    other = replace(measured, protocol=info.protocol | {"seen_penalty": 0.0})
    assert "Protocol of these scores" in write(info, ModelFacts(measured=other)).text


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("transductive", "Unseen names were known in training, their pixels had no label."),
        ("supervised", "Every class had labels."),
    ],
)
def test_settings_of_a_split(info, setting, told):
    unseen = ((), "shown") if setting == "supervised" else (("b",), "excluded")
    split = ClassSplit("s", ("a", "b"), unseen[0], setting, unseen[1])
    text = write(replace(info, split=split)).text
    assert told in text
    assert ("left out of training" in text) == (setting == "transductive")


def test_without_classes_and_without_clip(info):
    text = write(replace(info, split=ClassSplit("imported", ())), bundled=False).text
    assert "does not say which classes" in text
    assert 'model.segment("photo.jpg", ["dog", "grass", "sky"])' in text
    assert "the classes of its own split" not in text
    assert "is not in it and is loaded by its name" in text


def test_names_stand_there_as_they_are(info):
    """Neither escaped for HTML nor taken for a part of the template."""
    split = ClassSplit("s", ("a<b & c", "{{ parameters }}", "Straße"), ("Straße",))
    text = write(replace(info, split=split)).text
    assert "**2 seen**: a<b & c, {{ parameters }}" in text
    assert 'model.segment("photo.jpg", ["Straße", "a<b & c", "{{ parameters }}"])' in text
