"""Label Studio's results: areas are those of the label map."""

import json

import numpy as np
import pytest

from lexiseg.inference.formats.label_studio import label_studio_results
from lexiseg.inference.result import Segmentation
from lexiseg.ops.outlines import ring_area

NAMES = {0: "sky, blue", 1: 'a "dog"', 2: "never there"}


def labels():
    blocks = np.random.default_rng(3).random((5, 7)) < 0.5
    return np.kron(blocks, np.ones((7, 6))).astype(np.uint8)


@pytest.mark.parametrize("scored", [True, False])
def test_polygons_in_percent(scored):
    scores = np.full((35, 42), 0.25, np.float32) if scored else None
    found = Segmentation(labels(), scores, NAMES).to_instances(pieces=True)
    regions = label_studio_results(found, "polygonlabels", from_name="tag", to_name="picture")
    assert len({region["id"] for region in regions}) == len(regions) > 2
    areas = dict.fromkeys(NAMES.values(), 0.0)
    for region in regions:
        (name,) = region["value"]["polygonlabels"]
        points = np.array(region["value"]["points"])
        assert points.max() == pytest.approx(points.max().clip(0, 100))
        areas[name] += ring_area(points * [0.42, 0.35])
        assert region.get("score") == (0.25 if scored else None)
        assert (region["original_width"], region["original_height"]) == (42, 35)
        assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "picture", "polygonlabels")
    assert areas == pytest.approx({name: (labels() == index).sum() for index, name in NAMES.items()})
    json.dumps(regions)


def test_brushes_as_the_library_reads_them():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    found = Segmentation(labels(), None, NAMES).to_instances()
    for region in label_studio_results(found, "brushlabels", from_name="tag", to_name="picture"):
        (name,) = region["value"]["brushlabels"]
        mask = brush.decode_rle(region["value"]["rle"]).reshape(35, 42, 4)[..., 3] > 0
        assert (mask == (NAMES[int(labels()[mask][0])] == name) * mask).all()
        assert mask.sum() == (labels() == [*NAMES.values()].index(name)).sum()
