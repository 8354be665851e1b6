"""Predicting, judging and comparing in bfloat16: every training-free method, to the end, within stated bounds of float32."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cli.test_eval import TOY, checkpoint, describe  # noqa: F401  # a fixture is used by its name
from dense_cases import PATCH_METHODS, other_models
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import ToyWorld
from lexiseg.dense.methods import build_method
from lexiseg.dense.names import TG_CLIP, TG_CLIP_TEXT
from lexiseg.dense.wants import left_wanting, wants_masks
from lexiseg.inference import segmenter as segmenter_module
from lexiseg.inference.pipeline import Pipeline
from lexiseg.masks.mask_set import MaskSet

OF_PATCHES = (*PATCH_METHODS, TG_CLIP, TG_CLIP_TEXT)
WORDS = "red ring, water, sand, blue circle, bricks"

LABELS = 0.01
"""Share of pixels that may be labelled otherwise."""

SCORES = 0.05
"""Largest difference of a soft-max probability; bfloat16 has 8 bits, and the methods' logit scale is 40."""

UNTRAINED_LABELS = 0.04
"""The same for a model of random weights, whose words are all nearly as likely."""

FEATURES = 0.02
"""Largest difference between unit features, per channel."""

MIOU = 0.01
"""Largest difference of a score over a data set, as a fraction."""


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def clip():
    return load_clip("toy")


@pytest.fixture(scope="module")
def scene():
    return ToyWorld(partition="val", length=1, image_size=(104, 136))[0].image


def quarters(image):
    """Masks for the methods that read inside them."""
    rows, columns = (np.arange(side) * 2 // side for side in image.shape[:2])
    return MaskSet.from_labels(1 + 2 * rows[:, None] + columns)


def pipelines(clip, name):
    """One method in float32 and in bfloat16."""
    pipeline = Pipeline.training_free(build_method(name, clip.tower, **other_models(name)), clip)
    rounded = replace(pipeline, protocol=replace(pipeline.protocol, precision="bfloat16"))
    return pipeline, rounded


@pytest.mark.one_in(5)
@pytest.mark.parametrize("together", [True, False], ids=["at once", "in parts"])
@pytest.mark.parametrize("name", OF_PATCHES)
def test_every_method_labels_nearly_as_in_float32(clip, scene, monkeypatch, name, together):
    if not together:  # a few words at a time: the state is bound to all of them first
        monkeypatch.setattr(segmenter_module, "_WORDS_PER_PASS", 2)
    exact, rounded = (
        each.segmenter(WORDS, masks=quarters if wants_masks(name) else None).segment(scene)
        for each in pipelines(clip, name)
    )
    assert (exact.labels != rounded.labels).mean() < LABELS
    assert np.abs(exact.scores - rounded.scores).max() < SCORES
    assert not np.array_equal(exact.scores, rounded.scores), "and it is bfloat16"


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", OF_PATCHES)
def test_every_method_gives_nearly_the_features_of_float32(clip, scene, name):
    exact, rounded = (
        each.segmenter(WORDS, masks=quarters if wants_masks(name) else None).encode_dense(scene)
        for each in pipelines(clip, name)
    )
    assert rounded.dtype == torch.float32
    unit, near = (torch.nn.functional.normalize(each, dim=0) for each in (exact, rounded))
    assert (unit - near).abs().max() < FEATURES
    assert not torch.equal(exact, rounded)


@pytest.mark.parametrize("name", ["resclip", "naclip"])
def test_refinement_by_colour_stays_in_float32(clip, scene, name):
    exact, rounded = (each.segmenter(WORDS, refine=3).segment(scene) for each in pipelines(clip, name))
    assert (exact.labels != rounded.labels).mean() < LABELS


@pytest.mark.slow
def test_benchmark_of_every_method(tmp_path):
    run = ("benchmark", "clip=toy", "toy.data.length=2", "toy.data.image_size=[48,56]", "device=cpu")
    alone = [name for name in OF_PATCHES if not left_wanting(name, proxy=False, masks=False)]
    methods = f"methods=[{','.join(alone)}]"
    scores = {}
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        assert main([*run, methods, f"protocol.precision={precision}", f"output={out}"]) == 0
        cells = json.loads((out / "results.json").read_text())
        assert {cell["report"]["protocol"]["precision"] for cell in cells} == {precision}
        scores[precision] = {cell["method"]: cell["miou"] for cell in cells}
    assert len(scores["bfloat16"]) == len(alone)
    assert scores["bfloat16"] == pytest.approx(scores["float32"], abs=MIOU)


def test_eval_of_a_trained_model(checkpoint, tmp_path):  # noqa: F811
    scores = {}
    for precision in ("float32", "bfloat16"):
        out = tmp_path / f"{precision}.json"
        data = ("data=toy", "split=toy", "data.val.length=3", "data.val.image_size=[48,56]", "device=cpu")
        assert main(["eval", str(checkpoint), *data, f"protocol.precision={precision}", f"output={out}"]) == 0
        scores[precision] = json.loads(out.read_text())["scores"]
    assert scores["bfloat16"] == pytest.approx(scores["float32"], abs=MIOU, nan_ok=True)


def test_predict_with_a_trained_model(checkpoint, scene, tmp_path):  # noqa: F811
    photo = tmp_path / "scene.png"
    Image.fromarray(scene).save(photo)
    stored = torch.load(checkpoint, weights_only=True)
    labels = {}
    for precision in ("float32", "bfloat16"):
        stored["lexiseg"] = describe(TOY, protocol={"short_side": 48, "precision": precision}).to_dict()
        torch.save(stored, tmp_path / "changed.ckpt")
        out = tmp_path / precision
        flags = ("--checkpoint", str(tmp_path / "changed.ckpt"), "--classes", WORDS, "--device", "cpu")
        assert main(["predict", str(photo), *flags, "--out", str(out)]) == 0
        assert json.loads((out / "scene.json").read_text())["protocol"]["precision"] == precision
        labels[precision] = np.asarray(Image.open(out / "scene_labels.png"))
    assert (labels["float32"] != labels["bfloat16"]).mean() < UNTRAINED_LABELS
