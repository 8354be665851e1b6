import math

import pytest
import torch

from lexiseg.errors import DataError
from lexiseg.metrics.functional import (
    class_accuracy,
    class_iou,
    confusion_matrix,
    harmonic_mean,
    zero_shot_scores,
)
from lexiseg.types import ClassSplit
from support import golden_files, load_numbers

LABEL = torch.tensor([[0, 0, 0, 1], [1, 2, 255, 255]])
PREDICTED = torch.tensor([[0, 0, 1, 1], [2, 2, 0, 3]])
SPLIT = ClassSplit("hand", ("a", "b", "c", "d"), unseen=("c", "d"))


def test_hand_computed_scores():
    confusion = confusion_matrix(PREDICTED, LABEL, 4)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    scores = zero_shot_scores(confusion, SPLIT)
    assert scores.per_class()["a"] == pytest.approx(2 / 3)
    assert scores.per_class()["b"] == pytest.approx(1 / 3)
    assert scores.per_class()["c"] == pytest.approx(1 / 2)
    assert math.isnan(scores.per_class()["d"])
    assert scores.accuracy["b"] == pytest.approx(1 / 2)
    means = {"seen": 1 / 2, "unseen": 1 / 2, "harmonic": 1 / 2, "miou": 1 / 2, "miou_absent_as_zero": 3 / 8}
    assert scores.summary() == pytest.approx({**means, "pixel_accuracy": 4 / 6})


def test_both_averages_are_named_only_where_they_differ():
    every = zero_shot_scores(
        torch.tensor([[3, 1], [0, 2]]), ClassSplit("all", ("a", "b"), setting="supervised")
    )
    assert every.miou_absent_as_zero == every.miou == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert "miou_absent_as_zero" not in every.summary()


@pytest.mark.parametrize("classes", [300, 847])
def test_hundreds_of_classes_reach_past_255_and_ignore_65535(classes):
    label = torch.tensor([[254, 255, 256, classes - 1, 65535]])
    predicted = torch.tensor([[254, 255, 255, classes - 1, 7]])
    for given in (label, torch.from_numpy(label.numpy().astype("uint16"))):
        confusion = confusion_matrix(predicted, given, classes)
        assert confusion.sum() == 4
        assert [int(confusion[i, i]) for i in (254, 255, 256, classes - 1)] == [1, 1, 0, 1]
        assert confusion[256, 255] == 1
    scores = zero_shot_scores(
        confusion, ClassSplit("many", tuple(f"c{i}" for i in range(classes)), setting="supervised")
    )
    assert scores.miou == pytest.approx((1 + 1 / 2 + 0 + 1) / 4)
    assert scores.miou_absent_as_zero == pytest.approx(2.5 / classes)


def test_a_class_that_is_only_predicted_is_nan_and_costs_the_others():
    confusion = confusion_matrix(torch.tensor([0, 3]), torch.tensor([0, 0]), 4)
    iou = class_iou(confusion)
    assert iou[0] == 0.5
    assert iou[1:].isnan().all()
    assert class_accuracy(confusion)[3].isnan()


def test_rejected_pixels_are_misses():
    confusion = confusion_matrix(torch.tensor([0, 4, 1]), torch.tensor([0, 0, 1]), 4, rejection=True)
    assert confusion.shape == (4, 5)
    scores = zero_shot_scores(confusion, SPLIT)
    assert scores.iou["a"] == 0.5
    assert scores.iou["b"] == 1.0
    assert scores.pixel_accuracy == pytest.approx(2 / 3)


def test_harmonic_mean_rules():
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(0.8, 0.0) == 0.0
    assert harmonic_mean(0.6, 0.3) == pytest.approx(0.4)
    assert math.isnan(harmonic_mean(0.5, float("nan")))


def test_nothing_counted_is_nan_everywhere():
    scores = zero_shot_scores(torch.zeros(4, 4, dtype=torch.long), SPLIT)
    assert all(math.isnan(value) for value in scores.summary().values())


def test_without_unseen_classes_unseen_is_nan():
    scores = zero_shot_scores(
        torch.eye(2, dtype=torch.long), ClassSplit("all", ("a", "b"), setting="supervised")
    )
    assert scores.seen == 1.0
    assert math.isnan(scores.unseen)
    assert math.isnan(scores.harmonic)


@pytest.mark.parametrize(
    ("predicted", "label", "message"),
    [
        ([0], [4], "label id 4 is outside the schema: expected 0 to 3, or 255"),
        ([0], [-1], "label id -1 is outside the schema"),
        ([4], [0], "prediction id 4 is outside the schema: expected 0 to 3"),
        ([0, 0], [0], "must have the same size"),
    ],
)
def test_ids_outside_the_schema(predicted, label, message):
    with pytest.raises(DataError, match=message):
        confusion_matrix(torch.tensor(predicted), torch.tensor(label), 4)


def test_wrong_predictions_under_ignored_labels_do_not_matter():
    assert confusion_matrix(torch.tensor([9]), torch.tensor([255]), 4).sum() == 0


@pytest.mark.parametrize("path", golden_files("cascade", "eval_metrics.*"), ids=str)
def test_published_scores(path):
    golden = load_numbers(path)
    names = tuple(f"class {i}" for i in range(len(golden["IoU"])))
    split = ClassSplit("golden", names, unseen=tuple(names[int(i)] for i in golden["novel"]))
    matrix = confusion_matrix(golden["pred"].long(), golden["gt"].long(), len(names))
    scores = zero_shot_scores(matrix, split)
    assert list(scores.iou.values()) == pytest.approx(golden["IoU"].tolist(), rel=1e-6)
    assert list(scores.accuracy.values()) == pytest.approx(golden["Acc"].tolist(), rel=1e-6)
    published = [float(golden[key]) for key in ("mIoU_seen", "mIoU_unseen", "mIoU", "aAcc")]
    ours = [scores.seen, scores.unseen, scores.miou, scores.pixel_accuracy]
    assert ours == pytest.approx(published, rel=1e-6)
    harmonic = next(float(value) for key, value in golden.items() if key.startswith("hIoU"))
    assert scores.harmonic == pytest.approx(harmonic, rel=1e-6)
