"""Files and folders appear whole or not at all, and nothing else stays behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import LexisegError
from lexiseg.storage import (
    folder_or_nothing,
    is_same_file,
    read_words,
    require_file_place,
    require_folder,
    tell_unreadable,
    write_atomically,
    write_json,
    write_png,
    write_text,
)

needs_proc = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc, where nobody can write")


def test_places_for_results_are_looked_at_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    require_folder(tmp_path / "new" / "deep", "--out")
    require_file_place(tmp_path / "new" / "a.json", "output")
    require_file_place(tmp_path / "file", "output")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(LexisegError, match=r"--out .*below: .*file is a file; choose a folder"):
        require_folder(tmp_path / "file" / "below", "--out")
    with pytest.raises(LexisegError, match="output .* is a folder; give the name of a file"):
        require_file_place(tmp_path, "output")


@needs_proc
@pytest.mark.parametrize("require", [require_folder, require_file_place])
def test_places_where_nothing_can_be_written(require):
    with pytest.raises(LexisegError, match=r"cannot write /proc.*; choose another folder"):
        require(Path("/proc/none/deep"), "--out")


def test_why_a_text_cannot_be_read(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Bäume".encode("latin-1"))
    for name, told in (
        ("none.txt", "no file at {path}"),
        (".", "{path} is a folder"),
        ("latin.txt", "{path} is no UTF-8 text ('utf-8'"),
    ):
        path = tmp_path / name
        with pytest.raises((OSError, UnicodeDecodeError)) as caught:
            read_words(path)
        assert tell_unreadable(path, caught.value).startswith(told.format(path=path))


@pytest.mark.parametrize("durable", [False, True])
def test_a_write_that_dies_leaves_the_old_file_and_no_other(tmp_path, durable):
    path = tmp_path / "new" / "a.bin"
    write_atomically(path, lambda part: part.write_bytes(b"old"), durable=durable)

    def half(part):
        part.write_bytes(b"ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half, durable=durable)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o444 == 0o444


def test_what_many_kills_leave_of_a_durable_file_is_one_file(tmp_path):
    path, seen = tmp_path / "last.ckpt", []

    def write(part):
        seen.append(part.name)
        part.write_bytes(b"whole")

    (tmp_path / "last.ckpt.part").write_bytes(b"left by a kill")
    for _ in range(2):
        write_atomically(path, write, durable=True)
    assert seen == ["last.ckpt.part"] * 2
    assert [item.name for item in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_folder_appears_when_all_went_well(tmp_path):
    out = tmp_path / "deep" / "out"
    with folder_or_nothing(out) as part:
        (part / "a.txt").write_text("a")
        assert not out.exists()
    assert [item.name for item in out.iterdir()] == ["a.txt"]
    assert [item.name for item in out.parent.iterdir()] == ["out"]


def test_half_a_folder_is_none(tmp_path):
    def fail():
        with folder_or_nothing(tmp_path / "out") as part:
            (part / "a.txt").write_text("a")
            raise ValueError("no parity")

    with pytest.raises(ValueError, match="no parity"):
        fail()
    assert not list(tmp_path.iterdir())


def _open_folder(place):
    with folder_or_nothing(place):
        pass


@pytest.mark.parametrize(
    "write", [lambda place: write_atomically(place, lambda part: part.write_text("x")), _open_folder]
)
def test_where_nothing_can_be_written(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LexisegError, match="cannot write .*; choose another folder"):
        write(tmp_path / "file" / "x")


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


def test_a_folder_behind_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    with folder_or_nothing(tmp_path / "out") as part:
        (part / "a.txt").write_text("a")
    assert (tmp_path / "out").is_symlink()
    assert [item.name for item in (tmp_path / "elsewhere").iterdir()] == ["a.txt"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["elsewhere", "out"]


def test_a_full_folder_behind_a_link_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.txt").write_text("mine")
    (tmp_path / "out").symlink_to("elsewhere")
    with pytest.raises(LexisegError, match="cannot write"):
        _open_folder(tmp_path / "out")
    assert (tmp_path / "elsewhere" / "mine.txt").read_text() == "mine"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["elsewhere", "out"]


def test_one_file_by_two_names(tmp_path):
    one, other, loop = tmp_path / "one", tmp_path / "other", tmp_path / "loop"
    one.write_text("a")
    other.symlink_to("one")
    loop.symlink_to("loop")
    assert is_same_file(one, other)
    assert not is_same_file(one, tmp_path / "gone")
    assert not is_same_file(tmp_path / "gone", tmp_path / "gone")
    assert not is_same_file(loop, loop)


def test_texts_of_people(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffdog\r\ncat\rsofa\n".encode())
    assert read_words(tmp_path / "a.txt") == "dog\ncat\nsofa\n"
    (tmp_path / "b.txt").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="too large"):
        read_words(tmp_path / "b.txt")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_words(tmp_path / "c.txt")


@pytest.mark.parametrize("target", ["out", "gone"], ids=["itself", "nothing"])
def test_a_dead_link_takes_no_results(tmp_path, target):
    (tmp_path / "out").symlink_to(target)
    for path in (tmp_path / "out", tmp_path / "out" / "mine"):
        with pytest.raises(LexisegError, match="out is a link that leads nowhere; choose a folder"):
            require_folder(path, "output_dir")
