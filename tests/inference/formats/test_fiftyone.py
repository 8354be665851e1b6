"""Results as FiftyOne's labels; a stand-in for the library takes what the real one is given."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.result import Segmentation

LABELS = np.array([[2, 2, 0], [1, 3, 0]], dtype=np.uint8)
NAMES = {0: "a", 1: "b", 2: "c", 3: "(no class)"}


def result(labels=LABELS, names=None, scores=None):
    return Segmentation(labels, scores, names or NAMES)


@pytest.fixture(params=["stand-in", "real"])
def library(request, monkeypatch):
    if request.param == "real":
        return pytest.importorskip("fiftyone")
    made = SimpleNamespace(Segmentation=SimpleNamespace, Heatmap=SimpleNamespace)
    monkeypatch.setattr("lexiseg.inference.formats.fiftyone.require_extra", lambda *_: made)
    return made


def test_classes_count_from_one_and_no_class_is_not_drawn(library):
    found = result().to_fiftyone()
    assert isinstance(found, library.Segmentation)
    assert found.mask.dtype == np.uint8
    assert found.mask.tolist() == [[3, 3, 1], [2, 0, 1]]
    assert result().mask_targets() == {1: "a", 2: "b", 3: "c"}


def test_many_classes_are_sixteen_bit(library):
    labels = np.array([[254, 255, 300]], dtype=np.uint16)
    many = result(labels, {index: str(index) for index in range(301)})
    assert many.to_fiftyone().mask.dtype == np.uint16
    assert many.to_fiftyone().mask.tolist() == [[255, 256, 301]]
    with pytest.raises(LexisegError, match="70000 classes do not fit"):
        result(labels, {index: str(index) for index in range(70000)}).to_fiftyone()


def test_scores_are_a_heatmap(library):
    scores = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    found = result(scores=scores).to_fiftyone_heatmap()
    assert isinstance(found, library.Heatmap)
    assert (found.map == scores).all()
    assert list(found.range) == [0, 1]
    with pytest.raises(LexisegError, match="holds no scores"):
        result().to_fiftyone_heatmap()


def test_without_the_library(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(
        "lexiseg.lazy.import_module",
        lambda name: missing(name) if name == "fiftyone" else importlib.import_module(name),
    )
    with pytest.raises(ConfigError, match=r"pip install 'lexiseg\[fiftyone\]'"):
        result().to_fiftyone()
