import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.drawing.palette import class_colours
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference import result as result_module
from lexiseg.inference.pictures import NO_CLASS, drawable
from lexiseg.inference.result import Segmentation
from lexiseg.ops.run_length import decode_rle, encode_rle
from lexiseg.storage import write_atomically

NAMES = ("red", "green", "blue")


def result(labels=None, **kwargs):
    labels = np.array([[2, 2, 0], [2, 2, 0]], dtype=np.uint8) if labels is None else labels
    scores = np.array([[0.5, 0.7, 0.2], [0.9, 0.9, 0.4]], dtype=np.float32)
    defaults = {"scores": scores, "id2label": dict(enumerate(NAMES)), "protocol": {"name": "test"}}
    return Segmentation(labels, **{**defaults, **kwargs})


def test_areas_and_scores():
    assert result().areas == pytest.approx({"blue": 4 / 6, "red": 2 / 6})
    assert result().mean_scores == pytest.approx({"blue": 0.75, "red": 0.3})
    assert result(scores=None).mean_scores == {}


def test_what_was_found_in_one_line():
    assert result().describe() == "blue 66.7 %, red 33.3 %"
    assert result().describe(most=1) == "blue 66.7 %, and 1 more"


def test_where_the_json_stands_the_others_do(tmp_path, monkeypatch):
    image = np.full((2, 3, 3), 90, dtype=np.uint8)
    kept = {"image": image, "score_png": True}
    everything = {path.name for path in result().save(tmp_path, "photo", **kept).values()}
    written, left = [], []

    def stopped(path, write):
        assert not (tmp_path / "photo.json").exists(), (
            "of what was there before, the rest is another result's"
        )
        if len(written) == left[-1]:
            raise KeyboardInterrupt
        written.append(path.name)
        write_atomically(path, write)

    monkeypatch.setattr(result_module, "write_atomically", stopped)
    for count in range(len(everything)):
        left.append(count)
        written.clear()
        with pytest.raises(KeyboardInterrupt):
            result().save(tmp_path, "photo", **kept)
        assert "photo.json" not in {path.name for path in tmp_path.iterdir()}
    left.append(len(everything))
    written.clear()
    result().save(tmp_path, "photo", **kept)
    assert set(written) == everything
    assert written[-1] == "photo.json"


def test_files_hold_what_they_say(tmp_path):
    image = np.full((2, 3, 3), 90, dtype=np.uint8)
    paths = result(unseen=("blue",)).save(tmp_path / "new", "photo", image=image, score_png=True)
    assert {kind: path.name for kind, path in paths.items()} == {
        "labels": "photo_labels.png",
        "overlay": "photo_overlay.png",
        "json": "photo.json",
        "scores": "photo_scores.png",
    }
    with Image.open(paths["labels"]) as labels:
        assert labels.mode == "P"
        assert np.asarray(labels).tolist() == [[2, 2, 0], [2, 2, 0]]
        assert tuple(labels.getpalette()[6:9]) == class_colours(NAMES)[2]
    with Image.open(paths["scores"]) as scores:
        assert np.asarray(scores).tolist() == [[128, 178, 51], [230, 230, 102]]
    content = json.loads(paths["json"].read_text())
    assert (content["height"], content["width"]) == (2, 3)
    assert content["found"][0] == {
        "id": 2,
        "name": "blue",
        "pixels": 4,
        "area": pytest.approx(4 / 6),
        "mean_score": pytest.approx(0.75),
        "unseen": True,
    }
    assert content["id2label"] == {"0": "red", "1": "green", "2": "blue"}
    assert content["protocol"] == {"name": "test"}
    assert len(list((tmp_path / "new").iterdir())) == 4


@pytest.mark.parametrize("ids", [3, 300])
def test_every_file_can_be_had_without_a_disk(tmp_path, ids):
    image = np.random.default_rng(1).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    names = dict(enumerate((*NAMES, *(f"class {i}" for i in range(3, ids)))))
    made = result(unseen=("blue",), id2label=names)
    paths = made.save(tmp_path, "photo", image=image, score_png=True)
    for kind, path in paths.items():
        assert made.to_bytes(kind, image=image) == path.read_bytes(), kind
    for kind, picture in {
        "labels": made.label_image(),
        "overlay": made.overlay(Image.fromarray(image)),
        "scores": made.score_image(),
    }.items():
        with Image.open(paths[kind]) as saved:
            assert (picture.mode, picture.size) == (saved.mode, saved.size)
            assert np.array_equal(np.asarray(picture), np.asarray(saved)), kind


def test_what_is_not_there_cannot_be_had():
    with pytest.raises(LexisegError, match="'overlay': expected the photograph as image"):
        result().to_bytes("overlay")
    with pytest.raises(LexisegError, match="'mask': expected one of labels, overlay, json, scores"):
        result().to_bytes("mask")
    with pytest.raises(LexisegError, match="holds no scores"):
        result(scores=None).score_image()


def test_only_what_was_asked_for(tmp_path):
    assert set(result().save(tmp_path, "a", json=False)) == {"labels"}


def test_saving_twice_gives_the_same_bytes(tmp_path):
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    for stem in ("a", "b"):
        result().save(tmp_path, stem, image=image)
    for suffix in ("_labels.png", "_overlay.png", ".json"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LexisegError, match=r"cannot write .*photo.json .*choose another folder"):
        result().save(tmp_path / "file", "photo")
    with pytest.raises(LexisegError, match="segment with scores=True"):
        result(scores=None).save(tmp_path, "photo", label_png=False, json=False, score_png=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_overlay_needs_its_own_photograph(tmp_path):
    with pytest.raises(LexisegError, match=r"expected 2x3 pixels .* got 3x2"):
        result().save(tmp_path, "photo", image=np.zeros((3, 2, 3), dtype=np.uint8), label_png=False)


def test_many_classes_become_sixteen_bit(tmp_path):
    labels = np.array([[0, 255, 256], [999, 999, 1]], dtype=np.uint16)
    many = result(labels, id2label={i: f"class {i}" for i in range(1000)})
    paths = many.save(tmp_path, "photo", image=np.zeros((2, 3, 3), dtype=np.uint8))
    with Image.open(paths["labels"]) as image:
        assert image.mode.startswith("I")
        assert np.asarray(image).tolist() == labels.tolist()


def test_of_many_classes_the_largest_are_drawn():
    labels = np.arange(400).reshape(20, 20)
    labels[:2] = 399
    small, names = drawable(labels, [f"class {i}" for i in range(400)])
    assert len(names) == 255
    assert names[-2:] == ["class 399", "(other classes)"]
    assert (small[:2] == 253).all()
    assert (small == 254).sum() == 106  # 359 classes of one pixel, 253 of them drawn beside class 399


def test_no_class_is_drawn_as_ignored():
    small, names = drawable(np.array([[0, 1, 2]]), ["a", "b", NO_CLASS])
    assert small.tolist() == [[0, 1, 255]]
    assert names == ["a", "b"]


def test_tall_pictures_are_drawn_in_bands_without_seams(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (640, 370, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, (64, 37)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
    segmentation = result(labels, scores=None, unseen=("green",))
    banded = np.asarray(Image.open(segmentation.save(tmp_path, "a", image=image)["overlay"]))
    monkeypatch.setattr("lexiseg.inference.pictures._BAND", 10_000)
    whole = np.asarray(Image.open(segmentation.save(tmp_path, "b", image=image)["overlay"]))
    assert (banded == whole).all()


def test_hugging_face_form():
    first, second = result().to_hf()
    assert (first["label"], second["label"]) == ("blue", "red")
    assert first["score"] == pytest.approx(0.75)
    assert first["mask"].mode == "L"
    assert np.asarray(first["mask"]).tolist() == [[255, 255, 0], [255, 255, 0]]


def test_run_lengths_come_back():
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = rng.random((7, 11)) < 0.5
        assert (decode_rle(encode_rle(mask), (7, 11)) == mask).all()
    for full in (np.zeros((3, 2), dtype=bool), np.ones((3, 2), dtype=bool)):
        assert (decode_rle(encode_rle(full), (3, 2)) == full).all()
    with pytest.raises(ValueError, match="runs of 5 pixels for a mask of 3x2"):
        decode_rle([5], (3, 2))


def test_a_class_is_asked_for_by_id_or_by_name_and_an_unknown_one_is_named():
    labels = np.array([[0, 1, 1], [2, 1, 0]], dtype=np.uint8)
    result = Segmentation(labels, None, {0: "dog", 1: "grass", 2: "sky"})
    assert result.mask("grass").tolist() == [[False, True, True], [False, True, False]]
    assert result.mask(np.uint8(1)).tolist() == result.mask(1).tolist() == result.mask("grass").tolist()
    for unknown in ("cow", 3, -1):
        with pytest.raises(
            ConfigError, match=f"no class {unknown!r} was looked for; there are 0 dog, 1 grass"
        ):
            result.mask(unknown)
