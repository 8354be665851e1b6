"""Segments of photographs in COCO's form: read back by an independent reader, whatever happened on the way."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.data.datasets.coco_panoptic import CocoPanoptic
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.interruption import run_command
from lexiseg.ops.run_length import decode_rle, expand_counts
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.predict import Prediction, check_flags
from lexiseg.recipes.predict_segments import SegmentPrediction, predictor
from segmenter_fakes import ColourModel, RegionsOfColour, colour_embeddings


class Clip:
    source = "toy"


@pytest.fixture
def segmenter(monkeypatch):
    monkeypatch.setattr(Vocabulary, "embed", lambda self, clip, cache=None: colour_embeddings(self))
    protocol = InferenceProtocol(activation="scores")
    return Pipeline(RegionsOfColour(), Clip(), protocol, ("{}",)).segmenter("red, green, blue, black")


@pytest.fixture
def photos(tmp_path):
    made = []
    for index in range(3):
        blocks = np.random.default_rng(index).integers(0, 2, (4, 5, 3)) * 255
        pixels = np.kron(blocks, np.ones((11, 13, 1))).astype(np.uint8)[: 37 - index]
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        made.append(Photograph(tmp_path / f"{index}.png", f"{index}", pixels))
    return made


def numbers_of(path):
    """Segment numbers of a picture, by COCO's rule."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        red, green, blue = np.moveaxis(np.asarray(image).astype(np.int64), -1, 0)
    return red + 256 * green + 256**2 * blue


def check_panoptic(out):
    """What COCO's panoptic tool asks of a file and its pictures."""
    told = json.loads((out / "panoptic.json").read_text())
    classes = {each["id"]: each for each in told["categories"]}
    images = {each["id"]: each for each in told["images"]}
    assert len(images) == len(told["images"])
    assert [each["image_id"] for each in told["annotations"]] == list(images)
    for annotation in told["annotations"]:
        ids = numbers_of(out / "panoptic" / annotation["file_name"])
        image = images[annotation["image_id"]]
        assert ids.shape == (image["height"], image["width"])
        infos = annotation["segments_info"]
        listed = [each["id"] for each in infos]
        assert len(set(listed)) == len(listed)
        assert set(np.unique(ids)) - {0} == set(listed)
        stuff = [each["category_id"] for each in infos if not classes[each["category_id"]]["isthing"]]
        assert len(set(stuff)) == len(stuff)
        for each in infos:
            mask = ids == each["id"]
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            assert (each["area"], each["bbox"], each["iscrowd"]) == (mask.sum(), box, 0)
    return told


def test_panoptic_files(segmenter, photos, tmp_path):
    prediction = SegmentPrediction(segmenter, tmp_path / "out", "panoptic", "green, black")
    with prediction.keeping(3):
        found = [prediction.keep(photo) for photo in photos]
    told = check_panoptic(tmp_path / "out")
    assert [(each["id"], each["name"], each["isthing"]) for each in told["categories"]] == [
        (0, "red", 1), (1, "green", 0), (2, "blue", 1), (3, "black", 0),
    ]  # fmt: skip
    assert [each["file_name"] for each in told["images"]] == ["0.png", "1.png", "2.png"]
    assert told["info"]["protocol"]["overlap_threshold"] == 0.8
    assert sum(len(each["segments_info"]) for each in told["annotations"]) == sum(
        len(each.segments) for each in found
    )
    with Image.open(tmp_path / "out" / "1_panoptic_overlay.png") as image:
        assert image.height >= 36


def test_our_own_reader_of_coco_opens_them(segmenter, photos, tmp_path):
    prediction = SegmentPrediction(segmenter, tmp_path / "out", "panoptic", "green, black", overlay=False)
    with prediction.keeping(3):
        found = [prediction.keep(photo) for photo in photos]
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    (tmp_path / "out" / "panoptic").rename(root / "panoptic_val2017")
    (tmp_path / "out" / "panoptic.json").rename(root / "annotations" / "panoptic_val2017.json")
    for photo in photos:
        photo.path.rename(root / "val2017" / photo.path.name)
    dataset = CocoPanoptic(root=root, partition="val")
    assert dataset.classes == ("red", "green", "blue", "black")
    assert dataset.stuff == ("green", "black")
    for index, each in enumerate(found):
        segments = dataset.read_segments(index)
        assert [(s.class_id, s.is_thing, int(s.mask.sum())) for s in segments] == [
            (s.class_id, s.thing, s.area) for s in each.segments
        ]


def test_instance_files(segmenter, photos, tmp_path):
    prediction = SegmentPrediction(segmenter, tmp_path / "out", "instances", ["black"], overlay=False)
    with prediction.keeping(2):
        found = [prediction.keep(photo) for photo in photos[:2]]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["instances.json"]
    told = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert [each["id"] for each in told["annotations"]] == list(range(1, len(told["annotations"]) + 1))
    sizes = {each["id"]: (each["height"], each["width"]) for each in told["images"]}
    assert sizes == {1: (37, 65), 2: (36, 65)}
    assert len(told["annotations"]) == sum(len(each.things) for each in found) > 2
    for each in told["annotations"]:
        size = tuple(each["segmentation"]["size"])
        assert size == sizes[each["image_id"]]
        mask = decode_rle(expand_counts(each["segmentation"]["counts"]), size)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        assert (each["area"], each["bbox"], each["iscrowd"]) == (mask.sum(), box, 0)
        assert 0 < each["score"] <= 1
        assert each["category_id"] in (0, 1, 2)


def test_coco_tools_open_instance_files(segmenter, photos, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    prediction = SegmentPrediction(segmenter, tmp_path, "instances", overlay=False)
    with prediction.keeping(1):
        found = prediction.keep(photos[0])
    opened = coco.COCO(str(tmp_path / "instances.json"))
    for index, each in enumerate(opened.loadAnns(opened.getAnnIds(imgIds=[1]))):
        assert (opened.annToMask(each) == found.mask(index)).all()


def test_stopped_work_leaves_a_whole_file_and_no_picture_of_another_run(segmenter, photos, tmp_path):
    first = SegmentPrediction(segmenter, tmp_path / "out", "panoptic", "green, black", overlay=False)
    with first.keeping(3):
        for photo in photos:
            first.keep(photo)
    again = SegmentPrediction(segmenter, tmp_path / "out", "panoptic", "green", overlay=False)
    with again.keeping(3):
        assert json.loads((tmp_path / "out" / "panoptic.json").read_text())["images"] == []
        again.keep(photos[0])
        assert len(check_panoptic(tmp_path / "out")["images"]) == 1
    third = SegmentPrediction(segmenter, tmp_path / "out", "panoptic", "green, black", overlay=False)

    class StoppedError(BaseException):
        pass

    def work():
        with third.keeping(3):
            for photo in photos[:2]:
                third.keep(photo)
            raise StoppedError

    with pytest.raises(StoppedError):
        work()
    assert len(check_panoptic(tmp_path / "out")["images"]) == 2


def test_many_photographs_are_not_written_once_each(segmenter, photos, tmp_path, monkeypatch):
    folder = SegmentPrediction(segmenter, tmp_path / "out", "instances", overlay=False).files.folders["coco"]
    written = []
    write = type(folder).write
    monkeypatch.setattr(type(folder), "write", lambda self: (written.append(len(self.images)), write(self)))
    found = segmenter.instances(photos[0].pixels)
    with folder.open():
        for number in range(60):
            folder.add(replace(photos[0], stem=str(number)), found)
            assert number + 1 - written[-1] <= 0.1 * (number + 1)
    assert written[0] == 0
    assert written[-1] == 60
    assert len(written) < 40


def test_choices_that_do_not_go_together():
    given = {
        "threshold": None,
        "refine": None,
        "output": "semantic",
        "masks": False,
        "scores": True,
    }
    check_flags(**given)
    check_flags(**given | {"output": "panoptic", "scores": False})
    for changes, flag in (
        ({}, "--scores"),
        ({"scores": False, "masks": True}, "--masks"),
        ({"scores": False, "refine": 3}, "--refine"),
    ):
        with pytest.raises(ConfigError, match=f"{flag} is for labels of pixels"):
            check_flags(**given | {"output": "instances"} | changes)


def test_the_door_of_both(segmenter, tmp_path, monkeypatch):
    assert isinstance(predictor(segmenter, out=tmp_path), Prediction)
    assert isinstance(predictor(segmenter, out=tmp_path, output="instances"), SegmentPrediction)
    with pytest.raises(ConfigError, match="'sky' is none of the classes"):
        predictor(segmenter, out=tmp_path, output="panoptic", stuff="sky")
    pixels = Pipeline(ColourModel(), Clip(), InferenceProtocol(), ("{}",)).segmenter("red, blue")
    with pytest.raises(ConfigError, match="names pixels"):
        predictor(pixels, out=tmp_path, output="panoptic")
    assert not list(tmp_path.iterdir())


def test_rules_for_pixels_and_windows_are_left_out_and_said(segmenter, tmp_path, caplog):
    segmenter.protocol = replace(segmenter.protocol, window=32, stride=16, seen_penalty=0.1)
    prediction = predictor(segmenter, out=tmp_path, output="panoptic")
    assert "window, stride, seen_penalty of the model's protocol left out" in caplog.text
    assert prediction.segmenter.protocol == InferenceProtocol(activation="scores", seen_penalty=0.0)
    assert segmenter.protocol.window == 32
    other = replace(segmenter.protocol, probability_threshold=0.3)
    segmenter.protocol = other
    with pytest.raises(ConfigError, match="set protocol.object_threshold instead"):
        predictor(segmenter, out=tmp_path, output="panoptic")


def test_photographs_of_one_name_are_told_apart(segmenter, photos, tmp_path):
    prediction = predictor(segmenter, out=tmp_path / "out", output="instances", overlay=False)
    with prediction.keeping(2):
        for folder in ("a", "b"):
            path = tmp_path / folder / "1.jpg"
            prediction.keep(replace(photos[0], path=path, stem=f"{folder}_1_jpg"))
    images = json.loads((tmp_path / "out" / "instances.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a/1.jpg", "b/1.jpg"]


@pytest.mark.parametrize("kind", ["panoptic", "instances"])
@pytest.mark.parametrize("known", [None, (), ("red", "black")])
def test_words_that_training_knew_are_told(segmenter, photos, tmp_path, kind, known):
    segmenter._words = replace(segmenter._words, known_words=known)
    prediction = SegmentPrediction(segmenter, tmp_path, kind)
    with prediction.keeping(1):
        assert prediction.keep(photos[0]).known_words == known
    told = json.loads((tmp_path / f"{kind}.json").read_text())["info"]["known_words"]
    assert told == (None if known is None else list(known))


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("output", ["semantic", "panoptic", "instances"])
def test_what_is_said_of_photographs_that_were_stopped(segmenter, photos, tmp_path, capsys, output):
    prediction = predictor(segmenter, out=tmp_path / "out", output=output)

    def work():
        with prediction.keeping(3):
            prediction.keep(photos[0])
            signal.raise_signal(signal.SIGTERM)
        return 0

    assert run_command(work, ["lexiseg", "predict", "photos"], program=False) == 143
    said = capsys.readouterr().err
    assert said.startswith("lexiseg: interrupted; 1 of 3 photographs are segmented")
    assert said.endswith("; begin anew with: lexiseg predict photos\n"), (
        "no photograph is skipped the next time"
    )
