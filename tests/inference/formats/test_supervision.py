"""Results as ``supervision.Detections``."""

import importlib

import numpy as np
import pytest

from lexiseg.errors import ConfigError
from lexiseg.inference.formats import supervision
from lexiseg.inference.result import Segmentation

LABELS = np.array([[2, 2, 0, 1, 2], [2, 2, 0, 2, 1], [1, 0, 1, 0, 2]], dtype=np.uint8)


def result(**kwargs):
    scores = np.full(LABELS.shape, 0.5, np.float32)
    return Segmentation(LABELS, **{"scores": scores, "id2label": dict(enumerate("abc")), **kwargs})


@pytest.mark.parametrize("many", [1, 100])
def test_detections(monkeypatch, many):
    pytest.importorskip("supervision")
    monkeypatch.setattr(supervision, "_MANY", many)
    found = result().to_supervision()
    assert len(found) == 3
    assert isinstance(found.mask, np.ndarray) == (many == 100)
    for index, class_id in enumerate(found.class_id):
        assert (np.asarray(found.mask[index]) == (class_id == LABELS)).all()
        assert found.data["class_name"][index] == "abc"[class_id]
    assert found.confidence.tolist() == [0.5] * 3
    assert found.area.tolist() == [(class_id == LABELS).sum() for class_id in found.class_id]
    assert found.xyxy[found.class_id == 1].tolist() == [[0, 0, 5, 3]]
    assert result(scores=None).to_supervision().confidence is None
    pieces = result().to_instances(pieces=True).to_supervision()
    assert sum(pieces.area.tolist()) == LABELS.size
    assert len(Segmentation(LABELS * 0, None, {0: "(no class)"}).to_supervision()) == 0


def test_without_the_library(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(
        "lexiseg.lazy.import_module",
        lambda name: missing(name) if name == "supervision" else importlib.import_module(name),
    )
    with pytest.raises(
        ConfigError, match=r"detections need supervision, .*pip install 'lexiseg\[supervision\]'"
    ):
        result().to_supervision()
