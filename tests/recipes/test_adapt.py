"""From folders of photographs and masks to an adaptation, its account and its judgement."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lexiseg.checkpoints.word_adaptation import WordAdaptation
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError, DataError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.recipes.adapt import adapt, judge, read_example, read_shots, read_task
from segmenter_fakes import ColourClip, ColourModel

WORDS = Vocabulary((("wug", "wuggish"), ("dax",)))
COLOURS = ((250, 30, 20), (20, 40, 250))
NOTHING = {"photos": None, "label_maps": None, "example": None, "background": None, "judge": None}


@pytest.fixture
def folders(tmp_path):
    """Three photographs of two colours each, with masks; a third number in the masks says nothing."""
    rng = np.random.default_rng(3)
    for kind in ("photos", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(3):
        label = rng.integers(0, 2, (5, 7)).repeat(4, 0).repeat(4, 1)
        pixels = np.asarray(COLOURS)[label] + rng.integers(-10, 10, (20, 28, 3))
        label[:2, :3] = 9
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "photos" / f"{number}.png")
        Image.fromarray(label.astype(np.uint8)).save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


def pipeline():
    return Pipeline(
        ColourModel(), ColourClip(), InferenceProtocol(activation="linear", logit_scale=9.0), "plain"
    )


def test_a_folder_becomes_an_adaptation_with_its_account_and_diagram(folders):
    shots = read_shots(str(folders / "photos"), folders / "masks", 2, (9,))
    assert [(each.label == 255).sum() for each in shots] == [6, 6, 6]
    learned = adapt(pipeline(), WORDS, shots, shots)
    files = learned.write(folders / "out" / "two.safetensors")
    assert [each.name for each in files] == ["two.safetensors", "two.json", "two_reliability.png"]
    told = json.loads(files[1].read_text())
    assert told["photographs"] == 3
    assert told["judged"]["after"]["miou"] > told["judged"]["before"]["miou"]
    assert told["judged"]["after"]["calibration_error"] < told["judged"]["before"]["calibration_error"]
    assert WordAdaptation.read(files[0]).words == ("wug", "wuggish", "dax")
    assert any("prototypes" in line for line in learned.describe())
    without = adapt(pipeline(), WORDS, shots)
    assert len(without.write(folders / "one.safetensors")) == 2


def test_judging_counts_labelled_pixels_alone(folders):
    segmenter = pipeline().segmenter("red, blue")
    shots = read_shots(str(folders / "photos"), folders / "masks", 2, (9,))
    own = [np.where(each.label == 255, 255, segmenter.segment(each.image).labels) for each in shots]
    found = judge(segmenter, [replace(each, label=label) for each, label in zip(shots, own, strict=True)])
    assert found.miou == found.accuracy == 1
    assert found.reliability.counts.sum() == 3 * (20 * 28 - 6)
    for label in own:
        label[:10] = np.where(label[:10] == 255, 255, 1 - label[:10])
    found = judge(segmenter, [replace(each, label=label) for each, label in zip(shots, own, strict=True)])
    assert found.accuracy == pytest.approx(280 / 554)


def test_one_example_is_two_classes_of_one_photograph(folders):
    mask = np.zeros((20, 28), np.uint8)
    mask[4:8, 8:12] = 255
    Image.fromarray(mask).save(folders / "mask.png")
    example = (folders / "photos" / "0.png", folders / "mask.png")
    words, shots, others = read_task(Vocabulary((("mug",),)), **{**NOTHING, "example": example})
    assert words.words == (("background", "other"), ("mug",))
    assert not others
    assert shots[0].label.sum() == 16
    learned = adapt(pipeline(), words, shots).learned
    assert learned.words == ("background", "other", "mug")
    with pytest.raises(ConfigError, match="one thing, but there are 2 words"):
        read_task(WORDS, **{**NOTHING, "example": example})
    Image.fromarray(mask * 0).save(folders / "mask.png")
    with pytest.raises(DataError, match="marks nothing"):
        read_example(*example)


def test_what_does_not_fit_is_refused_before_a_model_is_loaded(folders):
    photos = {**NOTHING, "photos": str(folders / "photos"), "label_maps": folders / "masks"}
    with pytest.raises(ConfigError, match="give PHOTOS and MASKS, or --example"):
        read_task(WORDS, **NOTHING)
    with pytest.raises(ConfigError, match="give PHOTOS and MASKS, or --example"):
        read_task(WORDS, **{**photos, "label_maps": None})
    with pytest.raises(ConfigError, match="--background stands around one thing"):
        read_task(WORDS, **{**photos, "background": "wall"})
    with pytest.raises(DataError, match=r"0\.png holds id 9, but there are 2 words"):
        read_task(WORDS, **photos)
    (folders / "masks" / "1.png").unlink()
    with pytest.raises(DataError, match=r"no mask at .*1\.png for .*1\.png; expected STEM\.png"):
        read_task(WORDS, **photos, ignored=(9,))
    Image.fromarray(np.zeros((20, 27), np.uint8)).save(folders / "masks" / "1.png")
    with pytest.raises(DataError, match="is 20x28 .*its mask 20x27; both must have the same size"):
        read_task(WORDS, **photos, ignored=(9,))
