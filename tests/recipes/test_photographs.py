"""Photographs found, named and worked through from Python."""

import pytest
from PIL import Image

from lexiseg.errors import DataError
from lexiseg.recipes.photographs import find_photos, result_stems, work_through


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, colour in enumerate(("red", "blue", "white")):
        Image.new("RGB", (24, 16), colour).save(folder / f"{index}_{colour}.png")
    return folder


def test_globs_and_repeats(photos):
    found = find_photos([str(photos / "*_[rb]*.png"), str(photos), str(photos / "0_red.png")])
    assert [path.name for path in found] == ["0_red.png", "1_blue.png", "2_white.png"]
    nested = photos / "deep" / "er"
    nested.mkdir(parents=True)
    (photos / "0_red.png").rename(nested / "red.png")
    assert find_photos([str(photos / "**" / "r*.png")]) == [nested / "red.png"]


def test_same_names_in_two_folders_do_not_overwrite(tmp_path):
    paths = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png", tmp_path / "b" / "x.jpg", tmp_path / "y.png"]
    assert result_stems(paths) == ["a_x_png", "b_x_png", "b_x_jpg", "y"]
    assert result_stems([tmp_path / "x.png", tmp_path / "x.png"])[1].endswith("_2")


def test_no_image_at_all(tmp_path):
    with pytest.raises(DataError, match=r"no image found in .*; expected files ending in .jpg"):
        find_photos([str(tmp_path)])


def test_broken_and_refused_photographs_are_skipped_and_the_rest_is_done(photos):
    (photos / "1_blue.png").write_bytes(b"no image")
    seen, reasons = [], []

    def work(photograph, _):
        if photograph.stem == "2_white":
            raise DataError("too white")
        seen.append((photograph.stem, photograph.pixels.shape))

    paths = [*find_photos([str(photos)]), photos / "gone.png"]
    skipped = work_through(paths, work, skipped=lambda error: reasons.append(str(error)), told="look")
    assert seen == [("0_red", (16, 24, 3))]
    assert [path.name for path in skipped] == ["1_blue.png", "2_white.png", "gone.png"]
    assert reasons[1] == "too white"
