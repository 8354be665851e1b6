"""Building masks of a folder: resumed, in several processes, with broken photographs in it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lexiseg.errors import DataError, LexisegError
from lexiseg.masks.build import MaskTask, build_masks
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.masks.superpixels import Superpixels
from mask_cases import end_process, photograph, read_photograph


class Halves:
    """A provider whose masks are easy to know; counts how often it ran."""

    name = "halves"

    def __init__(self, at=0.5, empty=False):
        self.settings, self.empty, self.ran = {"at": at, "sides": ("left", "right")}, empty, 0

    def __call__(self, image):
        self.ran += 1
        left = np.zeros(image.shape[:2], dtype=bool)
        left[:, : int(self.settings["at"] * image.shape[1])] = not self.empty
        return MaskSet.from_masks(np.stack([left] if self.empty else [left, ~left]))


@pytest.fixture
def tasks(tmp_path):
    paths = [tmp_path / "images" / name for name in ("a.jpg", "b.png", "deep/a.png")]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(23 + seed, 31, seed)).save(path)
    return [MaskTask(path, MaskStore()) for path in paths]


def statuses(outcomes):
    return {outcome.image.name: outcome.status for outcome in outcomes}


def contents(tasks):
    return {task.target: task.target.read_bytes() for task in tasks}


def test_everything_is_made_once(tasks):
    provider = Halves()
    outcomes = list(build_masks(tasks, provider, read_photograph))
    assert [(outcome.status, outcome.masks) for outcome in outcomes] == [("made", 2)] * 3
    before = contents(tasks)
    again = list(build_masks(tasks, provider, read_photograph))
    assert [(outcome.status, outcome.masks) for outcome in again] == [("kept", 2)] * 3
    assert contents(tasks) == before
    assert provider.ran == 3


def test_what_is_missing_or_damaged_is_made_and_leftovers_go(tasks):
    list(build_masks(tasks, Halves(), read_photograph))
    before = contents(tasks)
    tasks[0].target.write_bytes(before[tasks[0].target][:100])
    tasks[1].target.unlink()
    leftover = tasks[2].target.parent / ".x.masks.part"
    leftover.write_text("half")
    provider = Halves()
    assert [outcome.status for outcome in build_masks(tasks, provider, read_photograph)] == [
        "made",
        "made",
        "kept",
    ]
    assert provider.ran == 2
    assert contents(tasks) == before
    assert not leftover.exists()


def test_other_settings_wait_for_leave(tasks):
    list(build_masks(tasks[:1], Halves(), read_photograph))
    before = contents(tasks[:1])
    (outcome,) = build_masks(tasks[:1], Halves(at=0.25), read_photograph)
    assert outcome.status == "differs"
    assert outcome.reason == "made with at 0.5 (now 0.25)"
    assert contents(tasks[:1]) == before
    (outcome,) = build_masks(tasks[:1], Halves(at=0.25), read_photograph, overwrite=True)
    assert outcome.status == "made"
    assert contents(tasks[:1]) != before
    (outcome,) = build_masks(tasks[:1], Superpixels(), read_photograph)
    assert outcome.reason == "made by halves, not by superpixels"


def test_another_version_of_the_photograph_waits_for_leave(tasks):
    list(build_masks(tasks[:1], Halves(), read_photograph))
    Image.fromarray(photograph(41, 53, 9)).save(tasks[0].image)
    (outcome,) = build_masks(tasks[:1], Halves(), read_photograph)
    assert (outcome.status, outcome.reason) == ("differs", "made of another version of the photograph")
    assert [o.status for o in build_masks(tasks[:1], Halves(), read_photograph, overwrite=True)] == ["made"]
    assert tasks[0].store.read(tasks[0].image, (41, 53)).size == (41, 53)


def test_broken_and_vanished_photographs_are_left_out(tasks):
    tasks[0].image.write_bytes(b"junk")
    tasks[1].image.unlink()
    broken, vanished, fine = build_masks(tasks, Halves(), read_photograph)
    assert broken.status == vanished.status == "failed"
    assert broken.reason == f"{tasks[0].image} is broken"
    assert "b.png" in vanished.reason
    assert fine.status == "made"
    assert not tasks[0].target.exists()


def test_empty_masks_are_counted_and_a_photograph_may_have_none(tasks):
    (outcome,) = build_masks(tasks[:1], Halves(empty=True), read_photograph)
    assert (outcome.status, outcome.masks, outcome.dropped) == ("made", 0, 1)
    (outcome,) = build_masks(tasks[:1], Halves(empty=True), read_photograph)
    assert (outcome.status, outcome.masks) == ("kept", 0)
    assert len(tasks[0].store.read(tasks[0].image)) == 0


def test_masks_of_sa_1b_beside_the_photograph_stay_untouched(tasks):
    other = tasks[0].image.with_suffix(".json")
    other.write_text(json.dumps({"something": "else"}))
    list(build_masks(tasks[:1], Halves(), read_photograph))
    assert json.loads(other.read_text()) == {"something": "else"}


def test_several_processes_equal_one(tasks, tmp_path):
    tasks[1].image.write_bytes(b"junk")
    provider = Superpixels(regions=(3, 7))
    expected = statuses(build_masks(tasks, provider, read_photograph))
    elsewhere = [MaskTask(t.image, MaskStore(tmp_path / "out", tmp_path / "images")) for t in tasks]
    found = statuses(build_masks(elsewhere, provider, read_photograph, workers=2))
    assert found == expected
    assert [t.target.read_bytes() for t in (tasks[0], tasks[2])] == [
        t.target.read_bytes() for t in (elsewhere[0], elsewhere[2])
    ]
    assert not list(tmp_path.rglob("*.part"))


def test_a_process_that_dies_is_reported(tasks):
    with pytest.raises(LexisegError, match="a worker process died"):
        list(build_masks(tasks, Superpixels(), end_process, workers=2))


def test_two_images_with_one_target(tasks, tmp_path):
    store = MaskStore(tmp_path / "out", tmp_path / "images")
    deep = MaskStore(tmp_path / "out", tmp_path / "images" / "deep")
    other = tmp_path / "images" / "a.png"
    both = [MaskTask(tasks[2].image, deep), MaskTask(other, store)]
    with pytest.raises(
        DataError, match=r"a\.png and .*a\.png would both have their masks in .*a\.png\.masks\.json"
    ):
        list(build_masks(both, Halves(), read_photograph))


def test_a_place_that_cannot_be_written_to(tasks, tmp_path):
    (tmp_path / "file").write_text("")
    blocked = MaskTask(tasks[0].image, MaskStore(tmp_path / "file", tmp_path / "images"))
    with pytest.raises(LexisegError, match="cannot write"):
        list(build_masks([blocked], Halves(), read_photograph))


_STOPPED_AT_WORK = """
import signal
from lexiseg.masks.build import _enter_process, _finish

def work(task):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    print("finished", flush=True)

_enter_process()
_finish(work, None)
print("went on", flush=True)
"""


def test_a_process_finishes_its_image_before_it_answers_a_signal():
    done = subprocess.run([sys.executable, "-c", _STOPPED_AT_WORK], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "finished\n", "")
    idle = _STOPPED_AT_WORK.replace("_finish(work, None)", "work(None)")
    done = subprocess.run([sys.executable, "-c", idle], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, ""), "an idle one leaves at once"
