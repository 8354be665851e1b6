import json

import pytest
import torch
import torch.multiprocessing as mp

from lexiseg.errors import ConfigError
from lexiseg.metrics.segmentation import ZeroShotMetric
from lexiseg.types import ClassSplit

SPLIT = ClassSplit("five", ("a", "b", "c", "d", "e"), unseen=("b", "e"))


def images(count):
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        label = torch.randint(0, 5, (1, 7, 11), generator=generator)
        label[torch.rand(label.shape, generator=generator) < 0.1] = 255
        yield torch.randint(0, 5, label.shape, generator=generator), label


def _process(rank, world, store, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    metric = ZeroShotMetric(SPLIT)
    for index, pair in enumerate(images(7)):
        if index % world == rank:
            metric.update(*pair)
    scores = metric.compute().summary()
    (out / f"{rank}.json").write_text(json.dumps(scores))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one_to_the_last_digit(tmp_path):
    metric = ZeroShotMetric(SPLIT)
    for pair in images(7):
        metric.update(*pair)
    mp.start_processes(_process, args=(2, tmp_path / "store", tmp_path), nprocs=2, start_method="spawn")
    expected = metric.compute().summary()
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == expected


def test_the_mean_is_over_the_data_set_not_over_images():
    metric = ZeroShotMetric(ClassSplit("two", ("a", "b"), setting="supervised"))
    metric.update(torch.tensor([[0, 0, 0, 0]]), torch.tensor([[0, 0, 0, 0]]))
    metric.update(torch.tensor([[1, 1, 1, 1]]), torch.tensor([[0, 1, 1, 1]]))
    assert metric.compute().iou == {"a": 4 / 5, "b": 3 / 4}


def test_reset_starts_anew():
    metric = ZeroShotMetric(SPLIT)
    pairs = list(images(2))
    metric.update(*pairs[0])
    metric.reset()
    metric.update(*pairs[1])
    other = ZeroShotMetric(SPLIT)
    other.update(*pairs[1])
    assert metric.compute() == other.compute()


def test_ignore_index_must_not_be_a_class():
    many = ClassSplit("many", tuple(f"class {i}" for i in range(300)), setting="supervised")
    with pytest.raises(ConfigError, match="ignore_index 255 is also the id of class 'class 255'"):
        ZeroShotMetric(many, ignore_index=255)
    assert ZeroShotMetric(many).ignore_index == 65535
    assert ZeroShotMetric(many, ignore_index=-1).confusion.shape == (300, 300)
