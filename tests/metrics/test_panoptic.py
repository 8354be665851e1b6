"""Panoptic quality by hand, and against COCO's way to count written out."""

import numpy as np
import pytest
import torch

from lexiseg.metrics.panoptic import PanopticMetric
from lexiseg.segments import NO_SEGMENT, Segments
from lexiseg.types import ClassSplit

SPLIT = ClassSplit("four", ("road", "car", "tree", "dog"), unseen=("dog",))
STUFF = (0, 2)
NONE = 4


def segments(ids, classes, crowds=()):
    array = np.array(ids)
    things = np.array([each not in STUFF for each in classes], dtype=bool)
    flags = np.isin(np.arange(len(classes)), crowds)
    return Segments(
        np.where(array < 0, NO_SEGMENT, array).astype(np.uint16), np.array(classes, np.int64), things, flags
    )


def count(metric, ids, classes, truth):
    """Predicted numbers from 1, and the class of each; 0 is none."""
    numbers = torch.tensor(ids)
    metric.update(numbers, torch.tensor([NONE, *classes])[numbers], truth)


TRUTH = segments([[0, 0, 0, 1, 1, 2, 2]] * 3, [0, 1, 1])


def test_segments_by_hand():
    metric = PanopticMetric(SPLIT, STUFF)
    # Road at 2/3 (the pixel beside it belongs to none), one car exactly, the other called a dog.
    count(metric, [[1, 1, 0, 2, 2, 3, 3]] * 3, [0, 1, 3], TRUTH)
    scores = metric.compute()
    assert scores.per_class["road"] == pytest.approx({"pq": 2 / 3, "sq": 2 / 3, "rq": 1.0})
    assert scores.per_class["car"] == pytest.approx({"pq": 2 / 3, "sq": 1.0, "rq": 2 / 3})
    assert scores.per_class["dog"] == {"pq": 0.0, "sq": 0.0, "rq": 0.0}
    assert np.isnan(scores.per_class["tree"]["pq"])
    assert scores.pq == pytest.approx(4 / 9)
    assert (scores.things, scores.stuff) == pytest.approx((1 / 3, 2 / 3))
    assert (scores.seen, scores.unseen) == pytest.approx((2 / 3, 0.0))


def test_what_a_prediction_leaves_out_is_missed():
    """torchmetrics alone would forgive a segment under pixels that the prediction calls nothing."""
    metric = PanopticMetric(SPLIT, STUFF)
    count(metric, [[1, 1, 1, 0, 0, 0, 0]] * 3, [0], TRUTH)
    scores = metric.compute()
    assert scores.per_class["car"]["pq"] == 0
    assert scores.pq == pytest.approx(0.5)


def test_a_background_class_is_no_segment():
    metric = PanopticMetric(SPLIT, STUFF, background=True)  # "road" is what belongs to no class
    count(metric, [[0, 0, 1, 2, 2, 3, 3]] * 3, [1, 1, 1], TRUTH)
    scores = metric.compute()
    assert np.isnan(scores.per_class["road"]["pq"])
    # Both cars found, one that is not there in the background: 2 of 2 + 1/2.
    assert scores.per_class["car"] == pytest.approx({"pq": 0.8, "sq": 1.0, "rq": 0.8})
    assert (scores.pq, scores.things) == pytest.approx((0.8, 0.8))
    assert np.isnan(scores.stuff)


def test_void_and_crowds_take_neither_side():
    metric = PanopticMetric(SPLIT, STUFF)
    truth = segments([[0, 0, -1, -1, 1, 1, 1]] * 3, [1, 1], crowds=(1,))
    # A car with a column of void; a dog mostly on void; a car mostly on the crowd.
    count(metric, [[1, 1, 1, 2, 3, 3, 3]] * 3, [1, 3, 1], truth)
    scores = metric.compute()
    assert scores.per_class["car"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0}
    assert np.isnan(scores.per_class["dog"]["pq"])


def naive(pairs):
    """(PQ, SQ, RQ) of each class as COCO's tool counts, crowds apart."""
    iou, hit, wrong = (dict.fromkeys(range(4), 0.0) for _ in range(3))
    for ids, classes, truth in pairs:
        ids, void = np.array(ids), truth.ids == NO_SEGMENT
        matched_found, matched_true = set(), set()
        for f, class_id in enumerate(classes, start=1):
            for t, true_class in enumerate(truth.classes.tolist()):
                found, there = ids == f, truth.ids == t
                both = (found & there).sum()
                union = found.sum() + there.sum() - both - (found & void).sum()
                if class_id == true_class and both and both / union > 0.5:
                    iou[class_id] += both / union
                    hit[class_id] += 1
                    matched_found.add(f)
                    matched_true.add(t)
        for t, true_class in enumerate(truth.classes.tolist()):
            wrong[true_class] += t not in matched_true and bool((truth.ids == t).any())
        for f, class_id in enumerate(classes, start=1):
            found = ids == f
            if found.any() and f not in matched_found and (found & void).sum() / found.sum() <= 0.5:
                wrong[class_id] += 1
    for index in range(4):
        if hit[index] + wrong[index]:
            sq = iou[index] / hit[index] if hit[index] else 0.0
            rq = hit[index] / (hit[index] + wrong[index] / 2)
            yield index, (sq * rq, sq, rq)


def test_as_coco_counts():
    draw = np.random.default_rng(1)
    metric, pairs = PanopticMetric(SPLIT, STUFF), []
    for _ in range(9):
        ids = np.kron(draw.integers(-1, 5, (2, 3)), np.ones((5, 7), dtype=int))
        truth = segments(ids, [1, 1, 3, 0, 2])
        found = np.where(
            draw.random(ids.shape) < 0.25 * draw.random(), draw.integers(0, 6, ids.shape), ids + 1
        )
        classes = [1, 1, 3, 0, 2] if draw.random() < 0.7 else [1, 3, 1, 2, 0]
        count(metric, found.tolist(), classes, truth)
        pairs.append((found.tolist(), classes, truth))
    scores, expected = metric.compute(), dict(naive(pairs))
    assert len(expected) == 4
    for index, values in expected.items():
        assert list(scores.per_class[SPLIT.classes[index]].values()) == pytest.approx(list(values))
    assert scores.pq == pytest.approx(np.mean([pq for pq, _, _ in expected.values()]))
    assert 0.1 < scores.pq < 0.9
