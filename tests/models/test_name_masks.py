"""Masks that are given instead of found: every model of regions names them as it would name its own."""

import pytest
import torch

import pair_cases
import region_model_cases
from lexiseg.errors import ConfigError
from lexiseg.models.registry import MODELS, Registered
from lexiseg.types import ClassWords
from region_probe import RegionProbe, RegionProbeSettings

CLASSES = 5


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(MODELS, "region_probe", Registered(RegionProbe, RegionProbeSettings(sharpness=15)))


def given_masks(model, images):
    """A left half, a corner, and a region of one pixel."""
    height, width = images.shape[-2:]
    masks = torch.zeros(3, height, width, dtype=torch.bool)
    masks[0, :, : width // 2] = True
    masks[1, -height // 3 :, -width // 3 :] = True
    masks[2, 5, 7] = True
    return masks


@pytest.mark.parametrize("name", [*pair_cases.PUBLISHED, "region_probe"])
def test_scores_of_given_masks(name):
    model = pair_cases.published(name)
    images, words = region_model_cases.photographs(model, 1), region_model_cases.spoken(model.tower.embed_dim)
    masks = given_masks(model, images)
    scores = model.name_masks(images, masks, words)
    assert scores.shape == (3, CLASSES)
    assert scores.isfinite().all()
    assert (scores >= 0).all()
    assert not scores.requires_grad
    assert not torch.allclose(scores[0], scores[1], rtol=1e-3)
    one_by_one = torch.cat([model.name_masks(images, mask[None], words) for mask in masks])
    torch.testing.assert_close(one_by_one, scores, rtol=1e-4, atol=1e-6)
    logits = torch.where(masks, 100.0, -100.0)
    torch.testing.assert_close(model.name_masks(images, logits, words), scores)
    assert model.name_masks(images, masks[:0], words).shape == (0, CLASSES)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("fc_clip", {}),
        ("zegformer", {}),
        ("zegformer", {"branch": "segment"}),
        ("zegformer", {"branch": "image", "crop": "mask"}),
        ("ovseg", {}),
        ("ovseg", {"drawn": "best"}),
        ("open_seg", {}),
        ("region_probe", {}),
    ],
)
@torch.no_grad()
def test_its_own_regions_get_its_own_scores(name, more):
    """Each proposal overlaps itself most, so what the model found and is given back is named as it was."""
    model = pair_cases.published(name, **more)
    images, words = region_model_cases.photographs(model, 1), region_model_cases.spoken(model.tower.embed_dim)
    found = model.named(model.encode(images), words)
    pixels = found.masks[0].flatten(1) > 0
    one_each = [
        index
        for index, own in enumerate(pixels)
        if own.any() and sum(torch.equal(own, each) for each in pixels) == 1
    ]
    assert len(one_each) >= 2
    again = model.name_masks(images, found.masks[0, one_each], words)
    torch.testing.assert_close(again, found.scores[0, one_each])


def test_ovseg_names_regions_that_it_would_not_draw():
    everything, best = (pair_cases.published("ovseg", drawn=drawn) for drawn in ("all", "best"))
    images, words = (
        region_model_cases.photographs(best, 1),
        region_model_cases.spoken(best.tower.embed_dim),
    )
    masks = given_masks(best, images)
    torch.testing.assert_close(
        best.name_masks(images, masks, words), everything.name_masks(images, masks, words)
    )


def test_san_reads_the_mask_and_not_its_side_adapter():
    model = pair_cases.published("san")
    images, words = region_model_cases.photographs(model, 1), region_model_cases.spoken(model.tower.embed_dim)
    masks = given_masks(model, images)
    before = model.name_masks(images, masks, words)
    with torch.no_grad():
        model.proposer.queries.add_(1.0)
    assert torch.equal(model.name_masks(images, masks, words), before)


@pytest.mark.parametrize(("count", "axes"), [(2, (3, 64, 96)), (1, (1, 3, 64, 96))])
def test_one_photograph_at_a_time(count, axes):
    model = pair_cases.published("region_probe")
    images = region_model_cases.photographs(model, count)
    with pytest.raises(ConfigError, match="name_masks: expected one photograph .* after the other"):
        model.name_masks(images, torch.zeros(axes), ClassWords.plain(torch.eye(model.tower.embed_dim)))
