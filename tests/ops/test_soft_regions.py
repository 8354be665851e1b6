import torch

from lexiseg.ops.soft_regions import soft_region_means


def test_means_by_loops():
    masks, features = torch.rand(2, 3, 5, 7), torch.randn(2, 11, 5, 7)
    means = soft_region_means(masks, features)
    for image in range(2):
        for region in range(3):
            total, area = torch.zeros(11), 0.0
            for row in range(5):
                for column in range(7):
                    weight = masks[image, region, row, column]
                    total, area = total + weight * features[image, :, row, column], area + weight
            torch.testing.assert_close(means[image, region], total / area)


def test_a_region_without_pixels():
    masks = torch.zeros(1, 2, 3, 5)
    masks[0, 1, 0, 0] = 0.5
    means = soft_region_means(masks, torch.ones(1, 7, 3, 5))
    assert means[0].tolist() == [[0.0] * 7, [1.0] * 7]
