"""CLIP's look at regions: parts of any length say the same, what is not to be seen is not looked at."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.errors import ConfigError
from lexiseg.models.region_classifiers.mask_prompts import MaskPrompts
from lexiseg.models.region_classifiers.masked_crops import MaskedCrops
from lexiseg.types import Proposals
from region_model_cases import tiny_tower

HEIGHT, WIDTH, REGIONS = 32, 64, 5
STYLES = ("mask", "crop", "cropmask", "region")


@pytest.fixture(scope="module")
def tower():
    return tiny_tower()


class CountingTower:
    """A tower that remembers how many pictures it was given at a time."""

    def __init__(self, tower):
        self.tower, self.passes = tower, []
        self.image_size, self.embed_dim = tower.image_size, tower.embed_dim

    def __call__(self, pictures):
        self.passes.append(len(pictures))
        return self.tower(pictures)


def batch(count=2):
    torch.manual_seed(1)
    images = F.interpolate(torch.randn(count, 3, 4, 7), size=(HEIGHT, WIDTH), mode="bilinear")
    masks = F.interpolate(torch.randn(count, REGIONS, 3, 4) * 4, size=(8, 16), mode="bilinear")
    masks[0, 1] = -9
    return images, Proposals(masks)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("style", STYLES)
def test_parts_and_batches_say_the_same(style, tower):
    images, proposals = batch()
    whole = MaskedCrops(style)(tower, images, proposals)
    counting = CountingTower(tower)
    parts = MaskedCrops(style, batch=2)(counting, images, proposals)
    assert max(counting.passes) == 2
    torch.testing.assert_close(parts.vectors, whole.vectors, rtol=1e-4, atol=1e-5)
    for index in range(2):
        one = Proposals(proposals.masks[index : index + 1])
        alone = MaskedCrops(style)(tower, images[index : index + 1], one)
        torch.testing.assert_close(alone.vectors[0], whole.vectors[index], rtol=1e-4, atol=1e-5)
        assert torch.equal(alone.visible[0], whole.visible[index])


@pytest.mark.parametrize("style", STYLES)
def test_each_region_is_its_own(style, tower):
    """What one region looks like does not depend on the others."""
    images, proposals = batch()
    vectors = MaskedCrops(style)(tower, images, proposals).vectors
    shuffled = MaskedCrops(style)(tower, images, Proposals(proposals.masks.flip(1))).vectors
    torch.testing.assert_close(shuffled, vectors.flip(1), rtol=1e-4, atol=1e-5)
    if style != "crop":  # two masks may well have one box
        assert not torch.allclose(vectors[1, 0], vectors[1, 2], atol=1e-3)


@pytest.mark.parametrize("prompted", [False, True])
def test_a_region_without_a_pixel_is_not_looked_at(prompted, tower):
    images, proposals = batch()
    prompts = MaskPrompts(tower, 2) if prompted else None
    crops = MaskedCrops("region", prompts=prompts)
    found = crops(tower, images, proposals)
    assert found.visible[0].tolist() == [True, False, True, True, True]
    assert not found.vectors[0, 1].any()
    nothing = crops(tower, images, Proposals(torch.full_like(proposals.masks, -9)))
    assert not nothing.visible.any()
    assert not nothing.vectors.any()
    single = proposals.masks.clone().fill_(-9)
    single[:, 3] = proposals.masks[:, 3]
    only = crops(tower, images, Proposals(single))
    assert only.visible.nonzero().tolist() == [[0, 3], [1, 3]]
    torch.testing.assert_close(only.vectors[:, 3], found.vectors[:, 3], rtol=1e-4, atol=1e-5)


def test_zegformer_looks_at_an_empty_one_too(tower):
    images, proposals = batch()
    found = MaskedCrops("cropmask")(tower, images, proposals)
    assert found.visible.all()
    blank = tower(torch.zeros(1, 3, tower.image_size, tower.image_size))
    torch.testing.assert_close(found.vectors[0, 1], blank[0], rtol=1e-4, atol=1e-5)


def test_regions_are_cut_to_the_content_and_boxes_are_not(tower):
    images, _ = batch()
    content = (HEIGHT - 9, WIDTH - 20)
    images[..., content[0] :, :] = 0
    images[..., content[1] :] = 0
    image, masks = images[1], torch.full((1, 8, 16), 9.0)
    region = MaskedCrops("region").cut(image, masks, 40, content)
    expected = F.interpolate(
        image[None, :, : content[0], : content[1]], size=(40, 40), mode="bicubic", align_corners=False
    )
    torch.testing.assert_close(region.pictures, expected)
    assert region.inside.all()
    box = MaskedCrops("crop").cut(image, masks, 40, content)
    assert not box.pictures[:, :, -8:].any(), "the padding is part of the box"


@pytest.mark.parametrize(("threshold", "visible"), [(0.4, True), (0.5, False)])
def test_the_threshold_decides(threshold, visible, tower):
    masks = torch.full((1, 8, 16), -0.2)  # sigmoid 0.45
    found = MaskedCrops("region", threshold=threshold).cut(batch()[0][0], masks, 40)
    assert found.visible.tolist() == [visible]


def test_prompts_need_regions(tower):
    with pytest.raises(ConfigError, match="crops of style 'region', got 'crop'"):
        MaskedCrops("crop", prompts=MaskPrompts(tower, 1))


def test_no_program_holds_crops(tower, monkeypatch):
    monkeypatch.setattr("lexiseg.models.region_classifiers.masked_crops.is_exporting", lambda: True)
    with pytest.raises(ConfigError, match="export with model.branch=segment"):
        MaskedCrops()(tower, *batch())
