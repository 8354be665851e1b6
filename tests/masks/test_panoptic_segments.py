"""Segments of a panoptic model as masks: what transformers' own post-processing finds, in the order of its scores."""

import numpy as np
import pytest
import torch

from lexiseg.errors import ConfigError, LexisegError
from lexiseg.masks.panoptic_segments import PanopticSegments
from lexiseg.recipes.mask_providers import make_provider
from mask_cases import photograph
from tiny_panoptic import TinyPanoptic


def test_the_best_first_and_empty_ones_left_out():
    masks = np.zeros((3, 5, 7), dtype=np.bool_)
    masks[0, :2], masks[2, 3:] = True, True
    found = PanopticSegments(lambda image: (masks, [0.5, 0.9, 0.75]), source={"model": "x"})(
        np.zeros((5, 7, 3), np.uint8)
    )
    assert found.scores.tolist() == [0.75, 0.5]
    assert (found.arrays() == masks[[2, 0]]).all()


@pytest.mark.parametrize("kind", ["eomt", "mask2former"])
@torch.no_grad()
def test_segments_are_the_models_own(kind, tmp_path):
    tiny, image = TinyPanoptic(kind), np.array(photograph(23, 31))
    tiny.save_pretrained(tmp_path / kind)
    found = make_provider("panoptic", {}, model=str(tmp_path / kind), device="cpu")(image)
    given = tiny.processor(images=image, return_tensors="pt")
    told = tiny.model.eval()(given["pixel_values"])
    (expected,) = tiny.processor.post_process_panoptic_segmentation(told, target_sizes=[(23, 31)])
    assert len(expected["segments_info"]) == len(found) >= 1
    for segment in expected["segments_info"]:
        own = (expected["segmentation"] == segment["id"]).numpy()
        assert any((own == mask).all() for mask in found)
    assert (found.arrays().sum(0) <= 1).all()


def test_what_is_no_panoptic_model(tmp_path):
    with pytest.raises(ConfigError, match="panoptic has no setting 'threshold'"):
        make_provider("panoptic", {"threshold": 0.5}, model=str(tmp_path), device="cpu")
    with pytest.raises(LexisegError):
        make_provider("panoptic", {}, model=str(tmp_path), device="cpu")
