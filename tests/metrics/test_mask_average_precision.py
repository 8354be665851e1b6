import json

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from lexiseg.metrics.mask_average_precision import MaskAveragePrecision
from lexiseg.segments import NO_SEGMENT, Segments
from lexiseg.types import ClassSplit

SPLIT = ClassSplit("four", ("road", "car", "tree", "dog"), unseen=("dog",))
STUFF = (0, 2)


def segments(ids, classes, crowds=()):
    """-1 for no segment."""
    array = np.array(ids)
    flags = np.isin(np.arange(len(classes)), crowds)
    things = np.array([each not in STUFF for each in classes], dtype=bool)
    return Segments(
        np.where(array < 0, NO_SEGMENT, array).astype(np.uint16), np.array(classes, np.int64), things, flags
    )


def strip(*columns, width=7):
    mask = np.zeros((3, width), dtype=bool)
    mask[:, list(columns)] = True
    return mask


TRUTH = segments([[0, 0, 1, 1, 1, -1, 2]] * 3, [1, 1, 3])


def test_masks_by_hand():
    metric = MaskAveragePrecision(SPLIT, STUFF)
    # The first car exactly, the second at 2/3, a wrong car where nothing is, and a dog called a car.
    masks = [strip(0, 1), strip(2, 3), strip(5), strip(6)]
    metric.update(masks, [0.9, 0.8, 0.7, 0.6], [1, 1, 1, 1], TRUTH)
    scores = metric.compute()
    half = 51 / 101  # recall 1/2 at precision 1
    assert scores.per_class["car"]["ap50"] == pytest.approx(1.0)
    assert scores.per_class["car"]["ap"] == pytest.approx((4 * 1.0 + 6 * half) / 10)
    assert scores.per_class["dog"] == {"ap": 0.0, "ap50": 0.0}
    assert scores.per_class.keys() == {"car", "dog"}
    assert scores.ap50 == pytest.approx(0.5)
    assert scores.ap75 == pytest.approx(half / 2)
    assert (scores.seen, scores.unseen) == pytest.approx(((4 + 6 * half) / 10, 0.0))


def test_a_crowd_counts_neither_way():
    metric = MaskAveragePrecision(SPLIT, STUFF)
    truth = segments([[0, 0, 0, 0, 1, 1, -1]] * 3, [1, 1], crowds=(0,))
    metric.update([strip(0), strip(1, 2), strip(4, 5)], [0.9, 0.8, 0.7], [1, 1, 1], truth)
    assert metric.compute().per_class["car"]["ap"] == pytest.approx(1.0)
    assert np.isnan(metric.compute().per_class["dog"]["ap"])


def test_masks_of_another_class_do_not_meet():
    metric = MaskAveragePrecision(SPLIT, STUFF)
    metric.update([strip(6)], [0.9], [1], TRUTH)
    metric.update([strip(6)], [0.9], [3], TRUTH)
    scores = metric.compute()
    assert scores.per_class["dog"]["ap"] == pytest.approx(51 / 101)
    assert scores.per_class["car"]["ap"] == 0


def test_a_photograph_without_a_found_mask_and_one_without_a_true_one():
    metric = MaskAveragePrecision(SPLIT, STUFF)
    metric.update([], [], [], TRUTH)
    assert metric.compute().ap == 0
    metric.update([strip(0, 1)], [0.5], [1], segments([[-1] * 7] * 3, []))
    assert metric.compute().per_class["car"]["ap"] == 0


def photographs(count):
    draw = np.random.default_rng(3)
    for _ in range(count):
        ids = np.kron(draw.integers(-1, 5, (2, 3)), np.ones((5, 7), dtype=int))
        truth = segments(ids, [1, 1, 3, 0, 1], crowds=(4,))
        noise = [ids == index for index in range(5)]
        masks = [mask ^ (draw.random(mask.shape) < 0.2 * draw.random()) for mask in noise]
        yield masks, sorted(draw.random(5).tolist(), reverse=True), draw.integers(0, 4, 5).tolist(), truth


def _process(rank, world, store, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    metric = MaskAveragePrecision(SPLIT, STUFF)
    for index, each in enumerate(photographs(7)):
        if index % world == rank:
            metric.update(*each)
    (out / f"{rank}.json").write_text(json.dumps(metric.compute().summary()))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    metric = MaskAveragePrecision(SPLIT, STUFF)
    for each in photographs(7):
        metric.update(*each)
    expected = metric.compute().summary()
    assert 0 < expected["ap"] < 1
    mp.start_processes(_process, args=(2, tmp_path / "store", tmp_path), nprocs=2, start_method="spawn")
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(expected)


def test_as_torchmetrics_counts_where_its_tools_are_installed():
    """Of torchmetrics' own class everything but the true masks of a crowd and their order is asked."""
    pytest.importorskip("pycocotools")
    pytest.importorskip("torchvision")
    from torchmetrics.detection import MeanAveragePrecision

    ours, theirs = MaskAveragePrecision(SPLIT, STUFF), MeanAveragePrecision(iou_type="segm")
    for masks, scores, classes, truth in photographs(7):
        ours.update(masks, scores, classes, truth)
        things = [index for index in range(len(classes)) if classes[index] not in STUFF]
        true = [each for each in truth if each.is_thing and each.mask.any()]
        theirs.update(
            [{"masks": torch.from_numpy(np.array([masks[i] for i in things]).reshape(-1, *truth.ids.shape)),
              "scores": torch.tensor([scores[i] for i in things]),
              "labels": torch.tensor([classes[i] for i in things], dtype=torch.long)}],
            [{"masks": torch.from_numpy(np.array([each.mask for each in true]).reshape(-1, *truth.ids.shape)),
              "labels": torch.tensor([each.class_id for each in true], dtype=torch.long),
              "iscrowd": torch.tensor([int(each.is_crowd) for each in true])}],
        )  # fmt: skip
    expected, found = theirs.compute(), ours.compute()
    assert found.ap == pytest.approx(float(expected["map"]), abs=1e-5)
    assert found.ap50 == pytest.approx(float(expected["map_50"]), abs=1e-5)
