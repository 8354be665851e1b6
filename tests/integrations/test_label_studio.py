"""The backend asked as Label Studio asks, through the library's own web application."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from integration_cases import load_integration
from lexiseg.errors import LexisegError

pytest.importorskip("label_studio_ml.model")

FILE = Path(__file__).parents[2] / "integrations" / "label_studio" / "model.py"


def configuration(kind):
    return f"""<View><Image name="picture" value="$image"/>
    <{kind} name="tag" toName="picture"><Label value="red"/><Label value="blue"/></{kind}></View>"""


@pytest.fixture
def backend(monkeypatch):
    module = load_integration(FILE, "model", monkeypatch)
    return module.Lexiseg


@pytest.fixture
def photo(tmp_path):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, :8, 0], pixels[:, 8:, 2] = 255, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_brushes_and_polygons(backend, photo, tmp_path):
    from label_studio_ml.api import init_app

    client = init_app(model_class=backend, model_dir=str(tmp_path / "models")).test_client()
    for kind in ("BrushLabels", "PolygonLabels"):
        asked = {
            "tasks": [{"id": 1, "data": {"image": f"/data/local-files/?d={photo}"}}],
            "label_config": configuration(kind),
            "project": f"1.{kind}",
        }
        set_up = client.post("/setup", json={"project": asked["project"], "schema": asked["label_config"]})
        assert set_up.status_code == 200, set_up.get_data(as_text=True)
        answer = client.post("/predict", json=asked)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        (prediction,) = answer.get_json()["results"]
        regions = prediction["result"]
        assert sorted(region["value"][kind.lower()][0] for region in regions) == ["blue", "red"]
        assert {region["type"] for region in regions} == {kind.lower()}
        assert 0 < prediction["score"] <= 1
    left = {region["value"]["polygonlabels"][0]: region["value"]["points"] for region in regions}["red"]
    assert np.allclose(left, [[0, 0], [100 / 3, 0], [100 / 3, 100], [0, 100]])


def test_a_configuration_without_masks(backend):
    config = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="red"/></Choices></View>'
    with pytest.raises(LexisegError, match="neither BrushLabels nor PolygonLabels"):
        backend(label_config=config).predict([])
