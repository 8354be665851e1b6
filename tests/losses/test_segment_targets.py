"""Label maps as segments."""

import pytest
import torch

from lexiseg.errors import TrainingError
from lexiseg.losses.segment_targets import instance_targets, segment_targets
from lexiseg.segments import SegmentMap
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


def test_class_255_of_hundreds_has_a_mask():
    (found,) = segment_targets(torch.tensor([[[255, 65535, 299]]]), 300)
    assert found.classes.tolist() == [255, 299]
    assert found.masks.int().tolist() == [[[1, 0, 0]], [[0, 0, 1]]]


def test_two_things_of_one_class_have_a_mask_each():
    ids = torch.tensor([[0, 2, -1], [1, 1, 0]], dtype=torch.int32)
    none = SegmentMap(
        -torch.ones(2, 3, dtype=torch.int32), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool()
    )
    segments = SegmentMap(ids, torch.tensor([4, 4, 7]), torch.tensor([True, True, False]))
    query_of_label = torch.tensor([-1, -1, -1, -1, 0, -1, -1, 1])
    first, empty = instance_targets((segments, none), query_of_label, (3, 5))
    assert first.classes.tolist() == [0, 0, 1]
    cut = first.masks[:, :2, :3].int()
    assert cut.tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]], [[0, 1, 0], [0, 0, 0]]]
    assert first.masks.sum() == cut.sum(), "padding is of no mask"
    assert empty.masks.shape == (0, 3, 5)
