"""Names of masks, against loops over pixels and a count by hand."""

import json
import math

import pytest
import torch
import torch.multiprocessing as mp

from lexiseg.errors import DataError
from lexiseg.metrics.mask_naming import MaskNamingMetric, mask_truth
from lexiseg.types import ClassSplit

SPLIT = ClassSplit("five", ("a", "b", "c", "d", "e"), unseen=("b", "e"))


def photographs(count):
    generator = torch.Generator().manual_seed(5)
    for index in range(count):
        label = torch.randint(0, 5, (7, 11), generator=generator)
        label[torch.rand(label.shape, generator=generator) < 0.2] = 255
        masks = torch.rand(index + 2, 7, 11, generator=generator) < 0.3
        yield torch.randint(0, 5, (len(masks),), generator=generator), masks, label


def truth_of_pixels(mask, label, classes):
    """Pixel by pixel."""
    counts = dict.fromkeys(range(classes), 0)
    void = 0
    for row in range(label.shape[0]):
        for column in range(label.shape[1]):
            if mask[row, column]:
                value = int(label[row, column])
                if value in counts:
                    counts[value] += 1
                else:
                    void += 1
    best = max(range(classes), key=lambda index: (counts[index], -index))
    return best if counts[best] and counts[best] >= void else 255


def test_truth_equals_a_count_of_pixels():
    for _, masks, label in photographs(13):
        assert mask_truth(masks, label, 5).tolist() == [truth_of_pixels(mask, label, 5) for mask in masks]


def test_truth_by_hand():
    label = torch.tensor([[0, 0, 1, 255, 255], [0, 2, 2, 255, 254], [1, 1, 1, 1, 0]])
    masks = torch.zeros(6, 3, 5, dtype=torch.bool)
    masks[0, 0, :3] = True  # 0, 0, 1
    masks[1, :2, 2:] = True  # 1, 2 and four without truth
    masks[2, 0, 2:4] = True  # 1 and one without truth: the class
    masks[3, 1, :3] = True  # 0, 2, 2
    masks[4, 0, 1:3] = True  # 0 and 1: the first
    assert mask_truth(masks, label, 3).tolist() == [0, 255, 1, 2, 0, 255]
    assert mask_truth(masks[:0], label, 3).shape == (0,)
    assert mask_truth(masks[:1], label.to(torch.uint8), 3).tolist() == [0]


def test_both_means_by_hand():
    metric = MaskNamingMetric(SPLIT)
    label = torch.tensor([[0, 0, 0, 1, 1, 255, 2]])
    masks = torch.zeros(7, 1, 7, dtype=torch.bool)
    for index, column in enumerate((0, 1, 2, 3, 4, 5, 6)):
        masks[index, 0, column] = True
    metric.update(torch.tensor([0, 0, 3, 1, 0, 4, 0]), masks, label)
    scores = metric.compute()
    assert scores.masks == 6  # the one on the ignored pixel is none
    assert scores.accuracy == 3 / 6
    assert scores.class_accuracy == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert scores.seen == pytest.approx((2 / 3 + 0) / 2)
    assert scores.unseen == 1 / 2
    assert scores.per_class["c"] == 0
    assert math.isnan(scores.per_class["d"])
    assert scores.summary()["mask_class_accuracy_unseen"] == 1 / 2


def test_nothing_to_name():
    metric = MaskNamingMetric(SPLIT)
    metric.update(torch.tensor([3]), torch.ones(1, 2, 3, dtype=torch.bool), torch.full((2, 3), 255))
    scores = metric.compute()
    assert scores.masks == 0
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.class_accuracy)


def test_a_name_must_be_a_class():
    with pytest.raises(DataError, match="prediction id 5 is outside"):
        MaskNamingMetric(SPLIT).update(
            torch.tensor([5]), torch.ones(1, 2, 3, dtype=torch.bool), torch.ones(2, 3)
        )


def _process(rank, world, store, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    metric = MaskNamingMetric(SPLIT)
    for index, photograph in enumerate(photographs(5)):
        if index % world == rank:
            metric.update(*photograph)
    (out / f"{rank}.json").write_text(json.dumps(vars(metric.compute())))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one_to_the_last_digit(tmp_path):
    metric = MaskNamingMetric(SPLIT)
    for photograph in photographs(5):
        metric.update(*photograph)
    mp.start_processes(_process, args=(2, tmp_path / "store", tmp_path), nprocs=2, start_method="spawn")
    for rank in (0, 1):
        assert (tmp_path / f"{rank}.json").read_text() == json.dumps(vars(metric.compute()))
