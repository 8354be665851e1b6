"""Label maps as segments."""

import pytest
import torch

from lexiseg.errors import TrainingError
from lexiseg.losses.segment_targets import segment_targets
from lexiseg.types import SegmentTargets


def test_one_mask_per_class_present():
    labels = torch.tensor([[[4, 4, 255], [1, 255, 4]], [[255, 255, 255], [255, 255, 255]]])
    first, empty = segment_targets(labels, 5)
    assert first.classes.tolist() == [1, 4]
    assert first.masks.int().tolist() == [[[0, 0, 0], [1, 0, 0]], [[1, 1, 0], [0, 0, 1]]]
    assert len(empty) == 0
    assert empty.masks.shape == (0, 2, 3)


def test_a_label_beyond_the_classes():
    with pytest.raises(TrainingError, match="label 7 reached a loss over 5 classes"):
        segment_targets(torch.tensor([[[7, 255]]]), 5)


def test_one_mask_per_class():
    with pytest.raises(ValueError, match="expected classes"):
        SegmentTargets(torch.zeros(2, dtype=torch.int64), torch.zeros(3, 2, 5, dtype=torch.bool))
