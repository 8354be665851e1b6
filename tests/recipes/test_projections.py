"""SCLIP's learned projection as a row of a benchmark: fitted once, kept, fitted anew when what decides it changes."""

from dataclasses import replace

import pytest
import torch

from lexiseg.clip.loading import load_clip
from lexiseg.data.toy.world import ToyWorld
from lexiseg.dense.learned_projection import kept_key, read_projection
from lexiseg.errors import ConfigError, DataError
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice, cell_key, prepare
from lexiseg.recipes import projections
from lexiseg.recipes.projections import wants_projection, with_projection

LEARNED = MethodChoice(name="sclip", label="learned", settings={"projections": ["learned"]})
PROTOCOL = {"window": 40, "stride": 24, "logit_scale": 40}


def toy(count=3):
    def training():
        return ToyWorld(partition="train", length=count, seed=0, image_size=(57, 72))

    val = ToyWorld(partition="val", length=1, seed=0, image_size=(57, 72))
    words = (*((name,) for name in val.classes[:-1]), (val.classes[-1], "thing"))
    return Benchmark(name="toy", dataset=val, words={None: words}, protocol=PROTOCOL, training=training)


@pytest.fixture(scope="module")
def clip():
    return load_clip("toy")


@pytest.fixture
def fits(monkeypatch, tmp_path):
    """What is fitted, without the time that it takes."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    seen = []

    def fit(tower, batches, text, **settings):
        seen.append((list(batches), text, settings))
        return torch.full((tower.width, tower.width), float(len(seen)))

    monkeypatch.setattr(projections, "fit_projection", fit)
    return seen


def test_which_rows_want_one():
    assert wants_projection(LEARNED)
    assert not wants_projection(MethodChoice(name="sclip"))
    assert not wants_projection(MethodChoice(name="sclip", settings={"projections": ["query"]}))
    assert not wants_projection(replace(LEARNED, settings={**LEARNED.settings, "learned": "x.safetensors"}))


def test_fitted_on_the_middle_windows_of_training_images_and_kept(clip, fits, tmp_path):
    ready = with_projection(LEARNED, toy(), clip, {}, tmp_path)
    (batches, text, settings), place = fits[0], tmp_path / "projections" / "toy.safetensors"
    assert ready.settings == {"projections": ["learned"], "learned": str(place)}
    assert torch.equal(read_projection(place), torch.ones(clip.vision.width, clip.vision.width))
    assert [tuple(images.shape) for images, _ in batches] == [(1, 3, 40, 40)] * 3
    assert [tuple(labels.shape) for _, labels in batches] == [(1, 40, 40)] * 3
    first = toy().training()[0]
    expected = torch.from_numpy(first.label.astype("int64"))[8:48, 16:56]
    assert torch.equal(batches[0][1][0], expected.where(expected < 42, 255))
    assert len(text) == 43, "every word of every class"
    assert settings["class_ids"].tolist() == [*range(42), 41]
    assert settings["logit_scale"] == 40


def test_kept_ones_are_taken_until_what_decides_them_changes(clip, fits, tmp_path):
    first = with_projection(LEARNED, toy(), clip, {}, tmp_path)
    key = cell_key(first, toy(), prepare(first, toy(), clip), clip, None)
    assert with_projection(LEARNED, toy(), clip, {}, tmp_path) == first
    assert len(fits) == 1
    with_projection(LEARNED, toy(), clip, {"logit_scale": 20}, tmp_path)
    with_projection(LEARNED, toy(count=2), clip, {}, tmp_path)
    assert len(fits) == 3
    assert cell_key(first, toy(), prepare(first, toy(), clip), clip, None) != key, "another matrix"


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_one_fits_and_the_others_wait(clip, fits, tmp_path, monkeypatch, rank):
    seen = []

    def broadcast(told):
        assert len(fits) == (rank == 0), "before the others go on"
        seen.append(list(told))

    monkeypatch.setattr(projections, "place_among_processes", lambda: (rank, 2))
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    ready = with_projection(LEARNED, toy(), clip, {}, tmp_path)
    place = tmp_path / "projections" / "toy.safetensors"
    assert ready.settings["learned"] == str(place)
    assert (place.is_file(), seen) == (rank == 0, [[None]])


def test_where_the_first_process_fails_all_do(clip, fits, tmp_path, monkeypatch):
    def broadcast(told):
        told[0] = told[0] or DataError("no label, says the first one")

    monkeypatch.setattr(projections, "place_among_processes", lambda: (1, 2))
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    with pytest.raises(DataError, match="says the first one"):
        with_projection(LEARNED, toy(), clip, {}, tmp_path)
    monkeypatch.setattr(projections, "place_among_processes", lambda: (0, 2))
    told = []
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", told.extend)
    monkeypatch.setattr(
        projections, "fit_projection", lambda *_, **__: (_ for _ in ()).throw(DataError("none"))
    )
    with pytest.raises(DataError, match="none"):
        with_projection(LEARNED, toy(), clip, {}, tmp_path)
    assert str(told[0]) == "none", "the others hear of it first"


def test_without_training_images_the_row_says_what_to_do(clip, fits, tmp_path):
    with pytest.raises(ConfigError, match=r"toy has no training images .*; name a file of one"):
        with_projection(LEARNED, replace(toy(), training=None), clip, {}, tmp_path)


def test_no_such_file(clip, tmp_path):
    wrong = tmp_path / "projection.txt"
    wrong.write_text("no tensor")
    for path in (wrong, tmp_path / "nowhere"):
        assert kept_key(path) is None
        with pytest.raises(ConfigError, match="expected a file that a benchmark kept its learned projection"):
            read_projection(path)
