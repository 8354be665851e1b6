"""A data set looked at before training, from Python: named places, named splits, what is in it."""

import numpy as np
import pytest
from PIL import Image

from lexiseg.data.datasets.catalogue import CATALOGUE
from lexiseg.errors import ConfigError, DataError
from lexiseg.recipes.data import DataPlace, check_data, find_split, prepare_data, read_split


@pytest.fixture
def camvid(tmp_path):
    """One photograph of 11 by 17 per partition, ids 0 to 11 in columns; there is no test set."""
    for partition in ("train", "val"):
        for folder in (partition, f"{partition}annot"):
            (tmp_path / folder).mkdir()
        Image.fromarray(np.full((11, 17, 3), 90, np.uint8)).save(tmp_path / partition / "a.png")
        ids = np.tile(np.arange(17, dtype=np.uint8) % 12, (11, 1))
        Image.fromarray(ids).save(tmp_path / f"{partition}annot" / "a.png")
    return tmp_path


def test_a_check_counts_maps_and_notes(camvid):
    check = check_data(DataPlace("camvid", root=camvid), "camvid")
    assert [row.pixels for row in check.rows] == [22] * 5 + [11] * 6
    assert {row.role for row in check.rows} == {"seen", "unseen"}
    assert check.mapping[-1] == ("11, 255", "ignored")
    assert any("1 of 1 images show unseen classes" in note for note in check.notes)
    assert {row.role for row in check_data(DataPlace("camvid", root=camvid)).rows} == {""}


def test_a_folder_of_one_s_own_and_a_generated_world(camvid, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(f"c{index}" for index in range(12)))
    place = DataPlace(
        "folder", images=camvid / "train", masks=camvid / "trainannot", classes=tmp_path / "words.txt"
    )
    assert len(check_data(place).rows) == 12
    toy = check_data(DataPlace("toy", partition="val"), "toy")
    assert toy.mapping is None
    assert toy.split.unseen
    with pytest.raises(DataError, match="neither a data set .* nor a folder"):
        check_data(DataPlace("camvidd"))


def test_a_split_by_its_name_or_as_a_file(tmp_path):
    assert find_split("voc_15_5").name == "voc_15_5.yaml"
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nunseen: [b]")
    assert find_split(str(own)) == own
    assert read_split(own, ("a", "b")).unseen == ("b",)
    for missing in ("none", str(tmp_path / "gone.yaml")):
        with pytest.raises(ConfigError, match="no split '.*'; there are all, camvid"):
            find_split(missing)


def test_the_test_set_of_camvid_is_read_where_it_is(camvid):
    entry = CATALOGUE["camvid"]
    assert entry.required_partitions(camvid) == ("train", "val")
    assert prepare_data("camvid", camvid).skipped == 2
    (camvid / "test").mkdir()
    assert entry.required_partitions(camvid) == ("train", "val", "test")
    with pytest.raises(DataError, match="CamVid"):
        prepare_data("camvid", camvid)


def test_every_other_data_set_needs_all_its_partitions(tmp_path):
    for name, entry in CATALOGUE.items():
        if name not in ("camvid", "ade20k_full", "context459"):
            assert entry.required_partitions(tmp_path) == tuple(entry.counts)
