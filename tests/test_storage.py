import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import LexisegError
from lexiseg.storage import write_atomically, write_json, write_png, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "scores.txt"
    write_text("old", target)

    def half(part):
        part.write_text("ha")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_atomically(target, half)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_target_appears_only_when_it_is_whole(tmp_path):
    target = tmp_path / "deep" / "er" / "scores.txt"

    def write(part):
        assert part.parent == target.parent
        assert not target.exists()
        part.write_text("whole")

    write_atomically(target, write)
    assert target.read_text() == "whole"
    assert target.stat().st_mode & 0o777 == 0o644


def test_json_takes_numpy_numbers_tuples_and_nan(tmp_path):
    write_json(
        {"iou": np.float32(0.5), "classes": ("a", "ä"), 3: [float("nan"), np.int64(7)]}, tmp_path / "x.json"
    )
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"iou": 0.5, "classes": ["a", "ä"], "3": [None, 7]}
    assert "ä" in text


def test_png_comes_back(tmp_path):
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    write_png(Image.fromarray(pixels), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        assert (np.asarray(image) == pixels).all()


def test_a_file_in_the_way_of_the_folder_is_one_message(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(LexisegError, match=r"cannot write .*taken/x\.txt \(.*\); choose another folder"):
        write_text("x", tmp_path / "taken" / "x.txt")
