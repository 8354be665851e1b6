"""Files for labelling tools, read back by readers of our own: areas are those of the label map."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from lexiseg.errors import ConfigError
from lexiseg.inference.result import Segmentation
from lexiseg.ops.outlines import ring_area
from lexiseg.ops.run_length import decode_rle, expand_counts
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.result_formats import ResultFiles, ResultFormats

NAMES = ['a "quoted", name', "line\nbreak: #1", "ünïcode 🐶", "never there", "- {x}: &y"]


def make(tmp_path, seed, folder="photos"):
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.choice([0, 1, 2, 4], (5, 7)), np.ones((7, 5))).astype(np.uint8)[:31, :33]
    labels[rng.random(labels.shape) < 0.1] = 2
    path = tmp_path / folder / "1.JPG"
    path.parent.mkdir(exist_ok=True)
    pixels = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    scores = rng.random(labels.shape).astype(np.float32)
    photograph = Photograph(path, f"{folder}_1", pixels)
    return photograph, Segmentation(labels, scores, dict(enumerate(NAMES)))


def areas(labels):
    return {index: int((labels == index).sum()) for index in np.unique(labels).tolist()}


@pytest.fixture
def written(tmp_path):
    """Two photographs of one name in every format."""
    made = [make(tmp_path, 1, "one"), make(tmp_path, 2, "two")]
    formats = ResultFormats.read("coco,panoptic,yolo,labelme,geojson", pieces=True, stuff="never there")
    files = ResultFiles(tmp_path / "out", formats)
    with files.open():
        for photograph, result in made:
            files.add(photograph, result)
    return tmp_path / "out", made


def test_coco(written):
    out, made = written
    told = json.loads((out / "coco.json").read_text())
    assert [each["file_name"] for each in told["images"]] == ["one/1.JPG", "two/1.JPG"]
    assert {each["id"]: each["name"] for each in told["categories"]} == dict(enumerate(NAMES))
    assert len({each["id"] for each in told["annotations"]}) == len(told["annotations"]) > 8
    for image, (_, result) in zip(told["images"], made, strict=True):
        painted = np.full(result.size, 99)
        for each in told["annotations"]:
            if each["image_id"] == image["id"]:
                mask = decode_rle(expand_counts(each["segmentation"]["counts"]), result.size)
                assert (painted[mask] == 99).all()
                assert mask.sum() == each["area"]
                painted[mask] = each["category_id"]
        assert (painted == result.labels).all()


def test_coco_polygons(tmp_path):
    photograph, result = make(tmp_path, 3)
    files = ResultFiles(tmp_path, ResultFormats.read("coco-polygons"))
    with files.open():
        files.add(photograph, result)
    told = json.loads((tmp_path / "coco.json").read_text())["annotations"]
    found = {
        each["category_id"]: sum(ring_area(np.array(ring).reshape(-1, 2)) for ring in each["segmentation"])
        for each in told
    }
    assert found == areas(result.labels)


def test_panoptic(written):
    out, made = written
    told = json.loads((out / "panoptic.json").read_text())
    for annotation, (photograph, result) in zip(told["annotations"], made, strict=True):
        assert annotation["file_name"] == f"{photograph.stem}.png"
        with Image.open(out / "panoptic" / annotation["file_name"]) as picture:
            ids = np.asarray(picture).astype(int) @ [1, 256, 65536]
        for each in annotation["segments_info"]:
            assert set(result.labels[ids == each["id"]]) == {each["category_id"]}
        assert (ids > 0).all()


def test_yolo(written):
    out, made = written
    told = yaml.safe_load((out / "yolo" / "data.yaml").read_text())
    assert told["names"] == dict(enumerate(NAMES))
    images = (out / "yolo" / told["train"]).read_text().splitlines()
    assert images == ["./images/one_1.jpg", "./images/two_1.jpg"]
    for line, (photograph, result) in zip(images, made, strict=True):
        assert (out / "yolo" / line).read_bytes() == photograph.path.read_bytes()
        labels = out / "yolo" / line.replace("/images/", "/labels/").replace(".jpg", ".txt")
        found = dict.fromkeys(areas(result.labels), 0.0)
        for row in labels.read_text().splitlines():
            class_id, *numbers = row.split()
            ring = np.array(numbers, dtype=float).reshape(-1, 2)
            assert ((ring >= 0) & (ring <= 1)).all()
            found[int(class_id)] += ring_area(ring * [result.size[1], result.size[0]])
        assert found == pytest.approx(areas(result.labels), abs=1e-3)


def test_a_photograph_whose_name_has_a_line_break(tmp_path):
    photograph, result = make(tmp_path, 5)
    files = ResultFiles(tmp_path, ResultFormats.read("yolo"))
    with files.open():
        files.add(replace(photograph, stem="a\nb c"), result)
    assert (tmp_path / "yolo" / "images.txt").read_text() == "./images/a_b c.jpg\n"
    assert (tmp_path / "yolo" / "labels" / "a_b c.txt").is_file()


def test_labelme(written):
    out, made = written
    for photograph, result in made:
        path = out / "labelme" / f"{photograph.stem}.json"
        told = json.loads(path.read_text())
        assert (path.parent / told["imagePath"]).samefile(photograph.path)
        assert (told["imageHeight"], told["imageWidth"]) == result.size
        found = dict.fromkeys(areas(result.labels), 0.0)
        for shape in told["shapes"]:
            assert shape["shape_type"] == "polygon"
            found[NAMES.index(shape["label"])] += ring_area(np.array(shape["points"]))
        assert found == areas(result.labels)


def test_geojson(written):
    out, made = written
    for photograph, result in made:
        told = json.loads((out / "geojson" / f"{photograph.stem}.geojson").read_text())
        found = dict.fromkeys(areas(result.labels), 0.0)
        for feature in told["features"]:
            geometry, properties = feature["geometry"], feature["properties"]
            polygons = geometry["coordinates"]
            polygons = [polygons] if geometry["type"] == "Polygon" else polygons
            rings = list(itertools.chain.from_iterable(polygons))
            assert all(ring[0] == ring[-1] for ring in rings)
            area = sum(ring_area(np.array(ring[:-1])) for ring in rings)
            assert area == properties["area"]
            assert properties["name"] == NAMES[properties["class_id"]]
            assert 0 <= properties["score"] <= 1
            found[properties["class_id"]] += area
        assert found == areas(result.labels)


def test_a_photograph_with_nothing_in_it(tmp_path):
    photograph, result = make(tmp_path, 4)
    nothing = replace(
        result, labels=np.full_like(result.labels, 5), id2label={**result.id2label, 5: "(no class)"}
    )
    files = ResultFiles(tmp_path, ResultFormats.read("coco,panoptic,yolo,labelme,geojson"))
    with files.open():
        files.add(photograph, nothing)
    assert (tmp_path / "yolo" / "labels" / "photos_1.txt").read_text() == ""
    assert json.loads((tmp_path / "coco.json").read_text())["annotations"] == []
    assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == 1
    assert json.loads((tmp_path / "panoptic.json").read_text())["annotations"][0]["segments_info"] == []


def test_lists_are_of_this_run_and_whole_when_it_is_stopped(tmp_path):
    made = [make(tmp_path, seed) for seed in range(3)]
    formats = ResultFormats.read("coco,yolo")

    class StoppedError(BaseException):
        pass

    def run(photos):
        files = ResultFiles(tmp_path, formats)
        with files.open():
            for index, (photograph, result) in enumerate(photos):
                files.add(replace(photograph, stem=str(index)), result)
            raise StoppedError

    for count in (3, 1, 0):
        with pytest.raises(StoppedError):
            run(made[:count])
        assert len(json.loads((tmp_path / "coco.json").read_text())["images"]) == count
        assert len((tmp_path / "yolo" / "images.txt").read_text().splitlines()) == count


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("png,xml", {}, "'xml' is none of png, coco"),
        ("", {}, "'' is none of png"),
        ("png,", {}, "'' is none of png"),
        ("coco,coco-polygons", {}, "one file, coco.json"),
        ("png", {"output": "panoptic"}, "leave it out with --output panoptic"),
        ("panoptic", {"output": "instances"}, "take --output panoptic"),
        ("coco", {"output": "instances", "pieces": True}, "leave --output out"),
        (None, {"pieces": True}, "add --format with one of coco"),
        (None, {"stuff": "sky"}, "--output panoptic or --output instances"),
        ("coco", {"stuff": "sky"}, "--format panoptic or --pieces"),
    ],
)
def test_formats_that_do_not_go_together(text, flags, message):
    with pytest.raises(ConfigError, match=message):
        ResultFormats.read(text, **flags)


def test_formats_of_an_output():
    assert ResultFormats.read(None).names == ("png",)
    assert ResultFormats.read(None, output="panoptic", stuff="sky").names == ("panoptic",)
    assert ResultFormats.read(None, output="instances").names == ("coco",)
    assert ResultFormats.read(" YOLO, png,yolo", pieces=True, stuff="sky").names == ("yolo", "png")
