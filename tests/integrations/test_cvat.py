"""The CVAT function by the command line's own loader: masks and polygons have the areas of the labels."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from integration_cases import load_integration
from lexiseg.ops.outlines import ring_area

cvataa = pytest.importorskip("cvat_sdk.auto_annotation")

FILE = Path(__file__).parents[2] / "integrations" / "cvat_function.py"


@pytest.fixture
def function(monkeypatch):
    module = load_integration(FILE, "__cvat_function__", monkeypatch)
    return module.create("red, green, blue", stuff="blue")


def context(**changes):
    return SimpleNamespace(
        **{"frame_name": "a.jpg", "conf_threshold": None, "conv_mask_to_poly": False, **changes}
    )


def photograph():
    blocks = np.random.default_rng(1).integers(0, 2, (4, 5, 3)) * 255
    return Image.fromarray(np.kron(blocks, np.ones((11, 13, 1))).astype(np.uint8))


def test_masks_and_polygons(function):
    from cvat_sdk.masks import decode_mask

    labels = [(label.name, label.id) for label in function.spec.labels]
    assert labels == [("red", 0), ("green", 1), ("blue", 2)]
    result = function._segmenter.segment(photograph())
    height, width = result.size
    painted = np.full(result.size, 9)
    shapes = function.detect(context(), photograph())
    assert len(shapes) > 3
    assert len([shape for shape in shapes if shape.label_id == 2]) == 1
    for shape in shapes:
        mask = decode_mask(shape.points, image_width=width, image_height=height)
        assert (painted[mask] == 9).all()
        painted[mask] = shape.label_id
    assert (painted == result.labels).all()
    areas = np.zeros(3)
    for shape in function.detect(context(conv_mask_to_poly=True), photograph()):
        assert shape.type.value == "polygon"
        areas[shape.label_id] += ring_area(np.array(shape.points).reshape(-1, 2))
    assert areas.tolist() == np.bincount(result.labels.ravel(), minlength=3).tolist()


def test_what_scores_less_is_left_out(function):
    scores = sorted(
        thing.score
        for thing in function._segmenter.segment(photograph()).to_instances(pieces=True, stuff="blue").things
    )
    kept = function.detect(context(conf_threshold=scores[2]), photograph())
    assert 0 < len(kept) == sum(score >= scores[2] for score in scores) < len(scores)
