"""Pooling by transposed interpolation equals pooling an upsampled map; pooling on the map's own grid equals plain means."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops.mask_pooling import (
    masks_on_grid,
    mean_in_regions,
    pool_by_masks,
    regions_on_grid,
    resize_masks,
)


def random_masks(count, size, seed=0):
    return torch.rand(count, *size, generator=torch.Generator().manual_seed(seed)) < 0.3


def pool_directly(features, masks, image_of_mask):
    """Upsample everything, then average: what the published code does."""
    fine = F.interpolate(features, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    return torch.stack(
        [fine[image][:, mask].mean(dim=1) for image, mask in zip(image_of_mask.tolist(), masks, strict=True)]
    )


@pytest.mark.parametrize(
    ("grid", "size"), [((3, 5), (17, 23)), ((7, 4), (7, 4)), ((11, 13), (5, 3))], ids=["up", "same", "down"]
)
def test_equals_upsampling(grid, size):
    features = torch.randn(3, 11, *grid, generator=torch.Generator().manual_seed(1))
    masks, owners = random_masks(7, size), torch.tensor([0, 2, 2, 0, 2, 2, 2])  # image 1 has none
    torch.testing.assert_close(
        pool_by_masks(features, masks, owners), pool_directly(features, masks, owners), rtol=1e-5, atol=1e-6
    )


def test_by_hand():
    features = torch.tensor([1.0, 5.0]).view(1, 1, 1, 2)  # upsampled to four columns: 1, 2, 4, 5
    masks = torch.tensor([[[0, 1, 1, 0]], [[0, 0, 1, 1]], [[0, 0, 0, 0]]], dtype=torch.bool)
    pooled = pool_by_masks(features, masks, torch.zeros(3, dtype=torch.long))
    assert pooled.flatten().tolist() == pytest.approx([3.0, 4.5, 0.0])


def test_no_mask_and_low_precision():
    features = torch.randn(2, 5, 3, 4)
    nothing = pool_by_masks(features, random_masks(0, (6, 8)), torch.zeros(0, dtype=torch.long))
    assert nothing.shape == (0, 5)
    masks, owners = random_masks(2, (6, 8)), torch.tensor([0, 1])
    low = pool_by_masks(features.bfloat16(), masks, owners)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, pool_by_masks(features.bfloat16().float(), masks, owners))


def test_masks_are_resized_by_nearest_neighbour():
    masks = random_masks(5, (34, 46))
    expected = F.interpolate(masks[None].float(), size=(13, 13), mode="nearest")[0].bool()
    assert torch.equal(resize_masks(masks, 13), expected)
    same = random_masks(2, (13, 13))
    assert resize_masks(same, 13) is same
    assert resize_masks(masks[:0], 13).shape == (0, 13, 13)


def test_masks_on_another_grid_keep_their_smallest():
    masks = random_masks(5, (34, 46))
    masks[2] = False
    masks[2, 33, 45] = True  # nearest neighbour looks elsewhere
    masks[4] = False
    expected = F.interpolate(masks[None].float(), size=(7, 11), mode="nearest")[0].bool()
    assert not expected[2].any()
    expected[2, 6, 10] = True
    assert torch.equal(masks_on_grid(masks, (7, 11)), expected)
    assert torch.equal(masks_on_grid(masks[:1], (34, 46)), masks[:1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_mean_in_regions(dtype):
    features = torch.randn(2, 11, 5, 7, generator=torch.Generator().manual_seed(3)).to(dtype)
    regions = random_masks(6, (5, 7)).unflatten(0, (2, 3))
    regions[1, 2] = False
    found = mean_in_regions(features, regions)
    assert found.dtype == dtype
    for image in range(2):
        for region in range(3):
            inside = features[image][:, regions[image, region]].float()
            mean = inside.mean(dim=1) if inside.shape[1] else torch.zeros(11)
            torch.testing.assert_close(found[image, region].float(), mean, rtol=2e-3, atol=2e-3)


def test_regions_are_cut_after_resizing_and_teach_nothing():
    masks = torch.randn(2, 3, 8, 10, generator=torch.Generator().manual_seed(4)).requires_grad_()
    assert torch.equal(regions_on_grid(masks, (8, 10)), masks > 0)
    small = regions_on_grid(masks, (4, 5))
    averaged = masks.detach().unflatten(3, (5, 2)).unflatten(2, (4, 2)).mean(dim=(3, 5))
    assert torch.equal(small, averaged > 0)
    assert not small.requires_grad
