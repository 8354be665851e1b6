"""Naming of single regions, counted by hand."""

import numpy as np
import pytest
import torch

from lexiseg.evaluation.region_accuracy import region_accuracy
from lexiseg.types import Sample


class Two:
    """Three regions of class 0, one each of 1 and 2; ignored pixels, and a photograph of nothing."""

    classes = ("a", "b", "c", "d")
    labels = (
        np.array([[0, 0, 1], [255, 254, 2]]),
        np.array([[0, 0, 0], [0, 0, 0]]),
        np.array([[255, 0, 255], [0, 255, 254]]),
        np.full((2, 3), 255),
    )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        label = self.labels[index].astype(np.uint8)
        return Sample(np.zeros((2, 3, 3), np.uint8), label, str(index))


def test_shares_of_regions_and_of_classes():
    """Takes every region for class 0, but one of a single pixel for class 2: right are 0, 0, 0 and 2 of five."""

    def read(image, masks):
        assert image.shape == (2, 3, 3)
        small = torch.from_numpy(masks.sum((1, 2)) == 1)
        return torch.where(small[:, None], torch.tensor([0.0, 0.1, 7.0, 0.2]), torch.tensor([3.0, 1, 0, 0]))

    found = region_accuracy(read, Two(), torch.eye(4))
    assert found.regions == 5
    assert found.mask_accuracy == pytest.approx(4 / 5)
    assert found.class_accuracy == pytest.approx((1 + 0 + 1) / 3)
