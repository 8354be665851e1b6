"""save_pretrained, from_pretrained and push_to_hub: the same segmentation, bit for bit, and no network."""

import re
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub.hub_mixin as hub_mixin
import numpy as np
import pytest
import torch
from PIL import Image

import lexiseg
from hostile import CLASSES, small_checkpoint
from lexiseg.checkpoints.model_facts import MeasuredScores, ModelFacts
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.inference import loading, pretrained
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.pretrained import PretrainedSegmenter, largest_difference
from lexiseg.masks.mask_set import MaskSet

FACTS = ModelFacts("mit", measured=MeasuredScores({"seen": 0.5}, {"name": "p"}, "small"))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save(small_checkpoint(), path)
    return PretrainedSegmenter(replace(Pipeline.load(path, device="cpu"), facts=FACTS))


@pytest.fixture(scope="module")
def folder(live, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved") / "my_model"
    live.save_pretrained(place)
    return place


@pytest.fixture
def photo():
    return np.random.default_rng(2).integers(0, 256, (41, 67, 3)).astype(np.uint8)


def equal(one, other):
    return np.array_equal(one.labels, other.labels) and np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize("words", [None, "bricks, sand; grass, blue square", ["red circle"]])
def test_the_same_segmentation_bit_for_bit(live, folder, photo, words):
    again = PretrainedSegmenter.from_pretrained(folder, device="cpu")
    assert largest_difference(live, again) == 0.0
    assert again.pipeline.protocol == live.pipeline.protocol
    expected, found = live.segment(photo, words), again.segment(photo, words)
    assert equal(found, expected)
    assert found.id2label == expected.id2label
    assert found.unseen == expected.unseen
    if words is None:
        assert tuple(found.id2label.values()) == CLASSES
        assert found.unseen == CLASSES[-1:]


def test_another_model_is_told_apart(live, tmp_path):
    content = small_checkpoint()
    content["state_dict"]["model.prompts.tokens"][0, 0, 0] += 1
    torch.save(content, tmp_path / "other.ckpt")
    other = PretrainedSegmenter(Pipeline.load(tmp_path / "other.ckpt", device="cpu"))
    assert largest_difference(live, other) > 0


def test_every_door_takes_the_folder(live, folder, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    expected = live.segment(photo, "bricks, red circle")
    assert equal(lexiseg.segment(tmp_path / "photo.png", "bricks, red circle", checkpoint=folder), expected)
    segmenter = Pipeline.load(str(folder), device="cpu").segmenter("bricks, red circle")
    assert equal(segmenter.segment(photo), expected)


def test_own_classes_need_no_text_tower(folder, photo):
    again = PretrainedSegmenter.from_pretrained(folder, device="cpu")
    expected = again.segment(photo)
    again.pipeline.clip.text_tower = None
    assert equal(again.segment(photo), expected)


def test_saved_again_it_says_the_same(folder, tmp_path):
    again = PretrainedSegmenter.from_pretrained(folder, device="cpu")
    assert again.pipeline.facts == FACTS
    again.save_pretrained(tmp_path / "my_model")
    for name in (
        "config.json",
        "README.md",
        "model.safetensors",
        "clip/model.safetensors",
        "clip/config.json",
    ):
        assert (tmp_path / "my_model" / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_snippet_in_the_card_runs(folder, photo, monkeypatch):
    monkeypatch.chdir(folder.parent)
    Image.fromarray(photo).save("photo.jpg")
    (snippet,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    assert 'from_pretrained("my_model")' in snippet
    exec(snippet, {})
    assert (folder.parent / "results" / "photo_labels.png").is_file()


def test_from_the_hub(live, folder, photo, monkeypatch):
    for module in (pretrained, loading):
        monkeypatch.setattr(
            module, "download_model_folder", lambda name, **how: {"somebody/model": folder}[name]
        )
    again = PretrainedSegmenter.from_pretrained("somebody/model", device="cpu", revision="v1")
    assert equal(again.segment(photo), live.segment(photo))
    assert equal(lexiseg.segment(photo, CLASSES, checkpoint="somebody/model"), live.segment(photo))


def test_push_to_hub(live, monkeypatch):
    pushed = {}

    class FakeApi:
        def __init__(self, token=None):
            pushed["token"] = token

        def create_repo(self, repo_id, **settings):
            pushed["private"] = settings["private"]
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **settings):
            pushed["files"] = {
                str(path.relative_to(folder_path)) for path in folder_path.rglob("*") if path.is_file()
            }
            pushed["card"] = (folder_path / "README.md").read_text()
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(hub_mixin, "HfApi", FakeApi)
    assert live.push_to_hub("somebody/model", private=True, token="secret") == "https://hub/somebody/model"
    assert (pushed["token"], pushed["private"]) == ("secret", True)
    assert pushed["files"] == {
        "README.md",
        "config.json",
        "model.safetensors",
        "text_embeddings.safetensors",
        "clip/config.json",
        "clip/known_words.txt",
        "clip/model.safetensors",
        "clip/preprocessor_config.json",
        "clip/tokenizer.json",
        "clip/tokenizer_config.json",
    }
    assert 'from_pretrained("somebody/model")' in pushed["card"]
    assert "license: mit" in pushed["card"]
    assert "secret" not in pushed["card"]


def test_what_cannot_be_saved_or_loaded(tmp_path):
    with pytest.raises(ConfigError, match="nothing trained to save or publish"):
        PretrainedSegmenter(Pipeline.load(clip="toy", device="cpu"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no model in this folder; expected a run's folder"):
        PretrainedSegmenter.from_pretrained(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        PretrainedSegmenter.from_pretrained(tmp_path / "nowhere")


def test_every_setting_reaches_the_segmenter(live, photo):
    looked_at = []

    class Maker:
        def __call__(self, picture):
            looked_at.append(picture.shape)
            return MaskSet.from_masks(np.ones((1, 41, 67), dtype=bool))

    rules = {"background": "sand, grass", "threshold": 0.4, "refine": 2}
    made = live.segmenter("bricks, red circle", **rules, masks=Maker())
    assert made.protocol == live.pipeline.segmenter("bricks, red circle", **rules).protocol
    assert (made.protocol.probability_threshold, made.protocol.pamr_steps) == (0.4, 2)
    assert made.vocabulary.words == (("background", "sand", "grass"), ("bricks",), ("red circle",))
    made.segment(photo, scores=False)
    assert looked_at == [(41, 67, 3)]
    asked = {"background": "sand, grass", "threshold": 0.4}
    found = live.segment(photo, "bricks, red circle", **asked)
    assert found.protocol == live.pipeline.segmenter("bricks", **asked).protocol.to_dict()
    assert found.id2label[0] == "background"
