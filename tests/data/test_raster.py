import resource

import numpy as np
import pytest

from lexiseg.data.raster import Raster, open_raster, write_labels
from lexiseg.errors import DataError, LexisegError

rasterio = pytest.importorskip("rasterio")
PLACE = rasterio.transform.from_origin(500000, 5200000, 0.5, 0.25)
SIZE = (61, 97)


def save(path, bands, **more):
    height, width = bands.shape[1:]
    kind = {"driver": "GTiff", "height": height, "width": width, "count": len(bands), "dtype": bands.dtype}
    with rasterio.open(path, "w", **kind, **more) as target:
        target.write(bands)
    return path


def noise(count=3, size=SIZE, kind=np.uint8):
    return np.random.default_rng(0).integers(0, 250, (count, *size)).astype(kind)


def read(path, rows=slice(3, 20), columns=slice(5, 31)):
    with open_raster(path) as dataset:
        raster = Raster(path, dataset)
        return raster.size, raster.pixels(rows, columns), raster.is_empty(rows, columns)


def test_a_window_of_the_first_three_bands(tmp_path):
    bands = noise(4)
    size, pixels, empty = read(save(tmp_path / "a.tif", bands, photometric="MINISBLACK", crs="EPSG:32632"))
    assert size == SIZE
    assert not empty.any()
    assert np.array_equal(pixels, bands[:3, 3:20, 5:31].transpose(1, 2, 0))


def test_bands_that_say_which_they_are(tmp_path):
    path, bands = tmp_path / "a.tif", noise(4)
    save(path, bands, photometric="MINISBLACK", crs="EPSG:32632", transform=PLACE)
    with rasterio.open(path, "r+") as target:
        kinds = rasterio.enums.ColorInterp
        target.colorinterp = (kinds.undefined, kinds.blue, kinds.green, kinds.red)
    assert np.array_equal(read(path)[1], bands[[3, 2, 1], 3:20, 5:31].transpose(1, 2, 0))


def test_one_band_is_grey(tmp_path):
    bands = noise(1)
    assert np.array_equal(
        read(save(tmp_path / "a.tif", bands))[1], bands[[0, 0, 0], 3:20, 5:31].transpose(1, 2, 0)
    )


def test_no_data_and_alpha_are_empty(tmp_path):
    bands = noise()
    bands[:, 10:14, 7:11] = 255
    expected = np.zeros((17, 26), dtype=bool)
    expected[7:11, 2:6] = True
    assert np.array_equal(read(save(tmp_path / "a.tif", bands, nodata=255))[2], expected)
    alpha = np.full((1, *SIZE), 255, dtype=np.uint8)
    alpha[0, 10:14, 7:11] = 0
    path = save(tmp_path / "b.tif", np.concatenate([bands, alpha]), photometric="RGB", alpha="YES")
    assert np.array_equal(read(path)[2], expected)


def test_sixteen_bits_and_colour_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match="uint16.*white"):
        read(save(tmp_path / "a.tif", noise(kind=np.uint16)))
    path = save(tmp_path / "b.tif", noise(1))
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {0: (1, 2, 3, 255)})
    with pytest.raises(DataError, match="colour table"):
        read(path)


def test_a_file_cut_short_and_no_raster(tmp_path):
    path = save(tmp_path / "a.tif", noise(size=(211, 307)))
    path.write_bytes(path.read_bytes()[:90_000])
    with pytest.raises(DataError, match=r"a\.tif"):
        read(path, slice(190, 211))
    (tmp_path / "b.tif").write_text("no picture")
    with pytest.raises(DataError, match=r"b\.tif"):
        read(tmp_path / "b.tif")


def labelled(tmp_path, names, labels, source, **more):
    path = tmp_path / "labels.tif"
    half = labels.shape[0] // 2
    everything = slice(0, labels.shape[1])
    tiles = [
        (slice(0, half), everything, labels[:half]),
        (slice(half, labels.shape[0]), everything, labels[half:]),
    ]
    with open_raster(source) as dataset:
        return path, write_labels(path, Raster(source, dataset), names, tiles, more)


@pytest.mark.parametrize(("classes", "kind", "ignore"), [(5, "uint8", 255), (301, "uint16", 65535)])
def test_labels_keep_their_place(tmp_path, classes, kind, ignore):
    source = save(tmp_path / "a.tif", noise(size=(557, 601)), crs="EPSG:32632", transform=PLACE)
    labels = np.random.default_rng(1).integers(0, classes, (557, 601)).astype(kind)
    labels[3:9, 2:90] = ignore
    path, counts = labelled(tmp_path, [f"w{index}" for index in range(classes)], labels, source, NOTE="told")
    assert np.array_equal(counts, np.bincount(labels[labels != ignore], minlength=classes))
    with rasterio.open(path) as found:
        assert np.array_equal(found.read(1), labels)
        assert (found.crs.to_epsg(), found.transform, found.nodata) == (32632, PLACE, ignore)
        assert found.overviews(1) == [2, 4]
        assert found.profile["compress"] == "deflate"
        assert found.tags()["CLASS_3"] == "w3"
        assert found.tags()["NOTE"] == "told"
        if kind == "uint8":
            table = found.colormap(1)
            assert table[255][3] == 0
            assert len({table[index] for index in range(classes)}) == classes


def test_a_raster_without_a_place_stays_without(tmp_path):
    path, _ = labelled(tmp_path, ["a"], np.zeros(SIZE, np.uint8), save(tmp_path / "a.tif", noise()))
    with open_raster(path) as found:
        assert found.crs is None
        assert found.transform.is_identity


def test_control_points_are_kept(tmp_path):
    points = [
        rasterio.control.GroundControlPoint(row, column, 500000 + column, 5200000 - row)
        for row, column in ((0, 0), (0, 97), (61, 0))
    ]
    source = save(tmp_path / "a.tif", noise(), gcps=points, crs="EPSG:32632")
    path, _ = labelled(tmp_path, ["a"], np.zeros(SIZE, np.uint8), source)
    with open_raster(path) as found:
        assert len(found.gcps[0]) == 3
        assert found.gcps[1].to_epsg() == 32632


def test_a_full_disk_is_told(tmp_path):
    source = save(tmp_path / "a.tif", noise(size=(1031, 1049)))
    labels = np.random.default_rng(1).integers(0, 250, (1031, 1049)).astype(np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        with pytest.raises(LexisegError, match="disk full"):
            labelled(tmp_path, [f"w{index}" for index in range(250)], labels, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
