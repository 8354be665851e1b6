import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.errors import ConfigError, DataError, LexisegError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.outlines import ring_area
from lexiseg.recipes.photographs import Photograph
from lexiseg.recipes.predict import Prediction
from lexiseg.recipes.predict_raster import at_scale, by_tiles
from lexiseg.recipes.result_formats import ResultFormats
from segmenter_fakes import ColourModel, colour_embeddings, colour_pipeline, make_segmenter

PROTOCOL = InferenceProtocol(window=13, stride=7, activation="linear", logit_scale=5.0)
SIZE = (149, 211)


def predict(tmp_path, protocol=PROTOCOL, formats="png", **more):
    vocabulary = Vocabulary.from_text("red, green, blue")
    segmenter = make_segmenter(ColourModel(), vocabulary, colour_embeddings(vocabulary), protocol)
    return Prediction(segmenter, tmp_path / "out", formats=ResultFormats.read(formats), **more)


def test_the_scale_is_the_photographs_own():
    pipeline = colour_pipeline(replace(PROTOCOL, short_side=22))
    assert at_scale(pipeline, "native").protocol == PROTOCOL
    assert at_scale(pipeline, None) is pipeline


def test_pictures_that_are_no_tiff_are_predicted_as_ever(tmp_path):
    plain = predict(tmp_path, formats="coco")
    assert by_tiles(plain, [tmp_path / "a.png"], "native") is plain
    assert by_tiles(plain, [tmp_path / "a.tif"], None) is plain


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"formats": "coco,png"}, "--format coco"), ({"score_png": True}, "--scores")],
)
def test_what_a_label_raster_cannot_hold(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told):
        by_tiles(predict(tmp_path, **changes), [tmp_path / "a.TIFF"], "native")


def test_what_needs_a_whole_picture(tmp_path):
    with pytest.raises(ConfigError, match="--refine"):
        by_tiles(predict(tmp_path, replace(PROTOCOL, pamr_steps=2)), [tmp_path / "a.tif"], "native")


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ConfigError, match=r"lexiseg\[geo\]"):
        by_tiles(predict(tmp_path), [tmp_path / "a.tif"], "native")


def blobs(size=SIZE):
    """Colours that stay the same for some pixels."""
    small = np.random.default_rng(0).integers(
        0, 256, (-(-size[0] // 11), -(-size[1] // 11), 3), dtype=np.uint8
    )
    return small.repeat(11, axis=0).repeat(11, axis=1)[: size[0], : size[1]]


def save(path, pixels, **more):
    rasterio = pytest.importorskip("rasterio")
    height, width = pixels.shape[:2]
    kind = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **kind, **more) as target:
        target.write(pixels.transpose(2, 0, 1))
    return Photograph(path, path.stem)


def geo():
    """A place in southern Germany, in metres."""
    rasterio = pytest.importorskip("rasterio")
    return {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500000, 5200000, 0.5, 0.25)}


def labels_of(path):
    with pytest.importorskip("rasterio").open(path) as found:
        return found.read(1)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of 64 pixels, so that a small picture has many borders."""
    monkeypatch.setattr("lexiseg.recipes.predict_raster.TILE", 64)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_tiles_are_the_whole_in_every_pixel(tmp_path, threshold):
    photograph, protocol = (
        save(tmp_path / "a.tif", blobs(), **geo()),
        replace(PROTOCOL, probability_threshold=threshold),
    )
    plain = predict(tmp_path, protocol)
    whole = plain.segmenter.segment(blobs())
    result = by_tiles(plain, [photograph.path], "native").keep(photograph)
    assert np.array_equal(labels_of(tmp_path / "out" / "a_labels.tif"), whole.labels)
    assert result.describe() == whole.describe()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_labels.tif"]


@pytest.mark.usefixtures("small_tiles")
def test_polygons_are_joined_across_tiles_and_lie_where_the_pixels_do(tmp_path):
    pytest.importorskip("rasterio")
    from rasterio import features, warp

    pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
    pixels[..., 0] = 255
    pixels[40:100, 50:180] = (0, 0, 255)  # over several tiles
    photograph, place = save(tmp_path / "a.tif", pixels, **geo()), geo()
    by_tiles(predict(tmp_path, formats="geojson"), [photograph.path], "native").keep(photograph)
    labels = labels_of(tmp_path / "out" / "a_labels.tif")
    told = json.loads((tmp_path / "out" / "geojson" / "a.geojson").read_text())
    found = {each["properties"]["name"]: each["geometry"]["coordinates"] for each in told["features"]}
    assert len(told["features"]) == len(found) == 2
    assert len(found["red"]) == 2
    assert len(found["blue"]) == 1
    assert ring_area(np.array(found["red"][0])) > 0 > ring_area(np.array(found["red"][1]))
    assert np.allclose(np.array(found["red"][0]).mean(0), (9.0, 46.95), atol=0.01)
    back = [
        (warp.transform_geom("EPSG:4326", place["crs"], each["geometry"]), each["properties"]["class_id"])
        for each in told["features"]
    ]
    drawn = features.rasterize(back, SIZE, fill=255, transform=place["transform"], dtype="uint8")
    assert np.array_equal(drawn, labels)


def test_without_a_place_polygons_are_in_pixels_and_what_has_no_class_is_none(tmp_path):
    pixels = np.full((*SIZE, 3), 90, dtype=np.uint8)
    pixels[:, :101] = (255, 0, 0)
    photograph, protocol = save(tmp_path / "a.tif", pixels), replace(PROTOCOL, probability_threshold=0.7)
    by_tiles(predict(tmp_path, protocol, "geojson"), [photograph.path], "native").keep(photograph)
    told = json.loads((tmp_path / "out" / "geojson" / "a.geojson").read_text())
    (feature,) = told["features"]
    corners = np.array(feature["geometry"]["coordinates"][0])
    assert feature["properties"]["class_id"] == 0
    assert corners.min(0).tolist() == [0, 0]
    assert corners[:, 1].max() == SIZE[0]
    assert 90 < corners[:, 0].max() < 110


@pytest.mark.usefixtures("small_tiles")
def test_no_data_has_no_label(tmp_path):
    pixels = blobs().clip(0, 254)
    pixels[20:90, 31:170] = 255
    photograph = save(tmp_path / "a.tif", pixels, nodata=255, **geo())
    plain = predict(tmp_path)
    by_tiles(plain, [photograph.path], "native").keep(photograph)
    expected = plain.segmenter.segment(pixels).labels.copy()
    expected[20:90, 31:170] = 255
    assert np.array_equal(labels_of(tmp_path / "out" / "a_labels.tif"), expected)


def test_a_file_cut_short_leaves_nothing(tmp_path):
    photograph = save(
        tmp_path / "a.tif", np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    )
    photograph.path.write_bytes(photograph.path.read_bytes()[:40_000])
    with pytest.raises(DataError, match=r"a\.tif.*whole"):
        by_tiles(predict(tmp_path), [photograph.path], "native").keep(photograph)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("small_tiles", "ctrl_c")
def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch):
    photograph, plain = save(tmp_path / "a.tif", blobs()), predict(tmp_path)
    segment, calls = plain.segmenter.segment_piece, []

    def stopped(pixels, after):
        calls.append(after)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return segment(pixels, after)

    monkeypatch.setattr(plain.segmenter, "segment_piece", stopped)
    with pytest.raises(KeyboardInterrupt):
        by_tiles(plain, [photograph.path], "native").keep(photograph)
    assert list((tmp_path / "out").iterdir()) == []


def test_labels_never_take_the_photographs_place(tmp_path):
    (tmp_path / "out").mkdir()
    photograph = save(tmp_path / "out" / "a_labels.tif", blobs())
    with pytest.raises(LexisegError, match="another --out"):
        by_tiles(predict(tmp_path), [photograph.path], "native").keep(replace(photograph, stem="a"))


def test_other_pictures_of_a_folder_are_read_whole(tmp_path):
    save(tmp_path / "a.tif", blobs())
    Image.fromarray(blobs()).save(tmp_path / "b.png")
    plain = predict(tmp_path)
    mixed = by_tiles(plain, [tmp_path / "a.tif", tmp_path / "b.png"], "native")
    result = mixed.keep(Photograph(tmp_path / "b.png", "b"))
    assert np.array_equal(result.labels, plain.segmenter.segment(blobs()).labels)
    assert (tmp_path / "out" / "b_labels.png").exists()
