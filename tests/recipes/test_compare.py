"""Methods side by side from Python: what each finds, what refuses, one picture with shared colours."""

import numpy as np
import pytest
from PIL import Image

from lexiseg.clip.loading import load_clip
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.toy.world import ToyWorld
from lexiseg.errors import ConfigError, DataError
from lexiseg.recipes import compare
from lexiseg.recipes.photographs import Photograph

WORDS = "red circle, bricks, grass, water"


def task(*methods):
    return compare.Comparison(
        Vocabulary.from_text(WORDS), methods, templates="single", clip="toy", device="cpu"
    )


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def scene():
    return ToyWorld(partition="val", length=1, seed=3, image_size=(56, 72))[0].image


def test_panels_are_what_predict_finds(scene):
    from lexiseg.inference.pipeline import Pipeline

    loaded = Pipeline.load(clip="toy", method="tg-clip", templates="single", device="cpu")
    expected = loaded.segmenter(Vocabulary.from_text(WORDS, "single")).segment(scene)
    contestants = compare.build_methods(task("tg-clip"), load_clip("toy"), pytest.fail)
    found = contestants[0].segmenter.segment(scene)
    assert (found.labels == expected.labels).all()
    assert found.protocol == expected.protocol


def test_a_method_that_refuses_the_clip(monkeypatch):
    build = compare.build_method

    def refuse(name, tower, **settings):
        if name == "gem":
            raise ConfigError("gem: the tower is too shallow")
        return build(name, tower, **settings)

    monkeypatch.setattr(compare, "build_method", refuse)
    refused = {}
    contestants = compare.build_methods(task("clip", "gem", "sclip"), load_clip("toy"), refused.__setitem__)
    assert [contestant.title for contestant in contestants] == ["clip", "sclip"]
    assert {title: str(error) for title, error in refused.items()} == {"gem": "gem: the tower is too shallow"}


class Refuses:
    def segment(self, pixels, scores, masks):
        raise DataError("too large for me")


def test_a_method_that_refuses_the_photograph(scene, tmp_path):
    refused, following = {}, []
    good = compare.build_methods(task("clip"), load_clip("toy"), pytest.fail)
    bad = compare.Contestant("gem", Refuses())
    photograph = Photograph(tmp_path / "a.png", "a", scene)
    readings = compare.read_all(photograph, [bad, *good], refused.__setitem__, following.append)
    assert [reading.title for reading in readings] == ["clip"]
    assert {title: str(error) for title, error in refused.items()} == {"gem": "too large for me"}
    assert following == ["clip", "gem"]
    with pytest.raises(DataError, match=r"a\.png: no method could read it"):
        compare.read_all(photograph, [bad], refused.__setitem__)


def test_colours_are_shared_by_panels_even_beyond_those_of_one_file(scene, tmp_path):
    names = [f"c{index}" for index in range(300)]
    # Alone, the last panel's many classes would drive class 7 out of the 254 that have a colour of their own.
    many = np.arange(280 * 360).reshape(280, 360) % 300
    many[many == 7] = 8
    many[100:110, 100:110] = 7
    labels = [np.full((280, 360), 7), np.full((280, 360), 299), many]
    readings = [compare.Reading(str(i), 0.1, "", label, ()) for i, label in enumerate(labels)]
    photograph = Photograph(tmp_path / "a", "a", np.full((56, 72, 3), 90, dtype=np.uint8))
    picture = np.asarray(compare.draw(photograph, readings, names))
    left, top, step = 14, 46, 360 + 14
    first, second, third = (picture[top : top + 280, left + step * k :][:, :360] for k in (1, 2, 3))
    assert len(np.unique(first.reshape(-1, 3), axis=0)) == 1
    assert (first[5, 5] != second[5, 5]).any()
    assert (third[104, 104] == first[5, 5]).all()


def test_a_truth_is_drawn_in_the_colours_of_its_classes(scene, tmp_path):
    ids = np.full((56, 72), 255, dtype=np.uint8)
    ids[:, 40:] = 2
    Image.fromarray(ids).save(tmp_path / "a.png")
    photograph = Photograph(tmp_path / "photos" / "a.jpg", "a", scene)
    (truth,) = compare.read_truth(tmp_path, photograph, 4)
    assert (truth.title, truth.unseen) == ("ground truth", ())
    height, width = truth.labels.shape
    assert (truth.labels[:, : width // 2] == 4).all(), "no class"
    assert (truth.labels[:, 2 * width // 3 :] == 2).all()
    same = compare.Reading("same", 0.1, "", np.full((height, width), 2), ())
    picture = np.asarray(compare.draw(photograph, [truth, same], list("wxyz")))
    left, top, step = 14, 46, width + 14
    assert (picture[top + 9, left + 2 * step - 30] == picture[top + 9, left + 3 * step - 30]).all()
    assert compare.read_truth(None, photograph, 4) == []


def test_ids_beyond_the_words_are_told(scene, tmp_path):
    ids = np.full((56, 72), 255, dtype=np.uint8)
    ids[:, :7], ids[:5] = 6, 3
    Image.fromarray(ids).save(tmp_path / "a.png")
    photograph, lines = Photograph(tmp_path / "photos" / "a.jpg", "a", scene), []
    compare.read_truth(tmp_path, photograph, 7, lines.append)
    assert lines == [], "255 is no id, and all others have a word"
    compare.read_truth(tmp_path, photograph, 3, lines.append)
    (line,) = lines
    assert "a.png: ids beyond the 3 classes of the words are drawn as no class, 2 in all (3, 6); give" in line


def test_one_clip_serves_all_and_one_contestant_at_least_is_left():
    clip, contestants = compare.gather(task("sclip", "clip"), pytest.fail)
    assert [contestant.title for contestant in contestants] == ["sclip", "clip"]
    assert {contestant.segmenter.vocabulary.names for contestant in contestants} == {tuple(WORDS.split(", "))}
    assert clip.source == "toy"
    with pytest.raises(ConfigError, match="no method is left to compare; choose others of clip"):
        compare.gather(task("groupvit"), lambda *_: None)
