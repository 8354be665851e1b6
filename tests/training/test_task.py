"""What the Lightning module hands on: whose pseudo-labels, how sure they are, when the teacher follows, which schedule."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lexiseg.constants import IGNORE_INDEX, UNLABELLED
from lexiseg.data.splits import make_split
from lexiseg.training.optim import OptimSettings, polynomial_with_warmup
from lexiseg.training.self_training import SelfTrainingSettings
from lexiseg.training.task import SegmentationTask
from lexiseg.types import MaskOutput, SegBatch

CLASSES = ("cat", "dog", "sky", "sand")


class Heights(nn.Module):
    """One logit per class, the same at every patch."""

    names_regions = False

    def __init__(self, *heights):
        super().__init__()
        self.heights = nn.Parameter(torch.tensor(heights))
        self.tower = None

    def normalize(self, images):
        return images.float()

    def forward(self, images, text):
        maps = self.heights[None, :, None, None].expand(len(images), -1, 2, 3)
        return MaskOutput(maps, (maps,))

    def parameter_groups(self, optim):
        return [{"params": [self.heights], "lr": optim.lr, "weight_decay": 0.0}]


class Criterion(nn.Module):
    """Keeps the labels that it was asked about."""

    def forward(self, logits, labels, stage_logits):
        self.labels = labels
        return {"loss": logits.sum()}


def make(*heights, setting="transductive", optim=None, **self_training):
    split = make_split(CLASSES, name="s", unseen=["dog", "sky"], setting=setting)
    return SegmentationTask(
        Heights(*heights),
        torch.eye(len(CLASSES)),
        split,
        criterion=Criterion(),
        optim=optim or OptimSettings(),
        info=None,
        labeller=None,
        self_training=SelfTrainingSettings(enabled=True, **self_training),
    )


def trained_labels(task):
    """Of a row of pixels: a cat, two that nobody labelled, one to be ignored, sand."""
    labels = torch.tensor([[[0, UNLABELLED, UNLABELLED, IGNORE_INDEX, 3]]])
    task.training_step(SegBatch(torch.zeros(1, 3, 1, 5, dtype=torch.uint8), labels, ("a",)), 0)
    return task.criterion.labels.flatten().tolist()


# Without a trainer there is nobody to log to, which Lightning remarks on.
quiet = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


@quiet
def test_pseudo_labels_must_be_as_sure_as_the_settings_say():
    heights = (5.0, 0.2, 0.1, 5.0)  # of the unseen the dog is highest: a sigmoid of 0.55
    assert trained_labels(make(*heights)) == [0, 1, 1, 255, 3]
    assert trained_labels(make(*heights, confidence=0.5)) == [0, 1, 1, 255, 3]
    assert trained_labels(make(*heights, confidence=0.6)) == [0, 255, 255, 255, 3]


@quiet
def test_a_teacher_gives_the_pseudo_labels():
    alone, taught = make(0.0, 2.0, 1.0, 0.0), make(0.0, 2.0, 1.0, 0.0, teacher_decay=0.9)
    for task in (alone, taught):
        with torch.no_grad():
            task.model.heights[2] = 3.0  # from now on the student sees sky, the teacher still a dog
    assert trained_labels(alone) == [0, 2, 2, 255, 3]
    assert trained_labels(taught) == [0, 1, 1, 255, 3]


def test_the_teacher_follows_once_per_optimiser_step():
    task = make(0.0, 2.0, 1.0, 0.0, teacher_decay=0.75)
    task._trainer = SimpleNamespace(global_step=0)
    with torch.no_grad():
        task.model.heights.add_(4.0)
    heights = []
    for index in range(7):
        task.trainer.global_step = index // 3  # three batches a step
        task.on_train_batch_start(None, index)
        heights.append(float(task.teacher.average.heights[0]))
    assert heights == pytest.approx([0, 0, 0, 1, 1, 1, 1 + 3 / 4])


@pytest.mark.parametrize(("schedule_steps", "laid_out_for"), [(0, 7), (20, 20)])
def test_the_rate_decays_over_the_steps_of_the_schedule(schedule_steps, laid_out_for):
    settings = OptimSettings(lr=1e-2, warmup_steps=2, schedule_steps=schedule_steps)
    task = make(0.0, 0.0, 0.0, 0.0, optim=settings)
    task._trainer = SimpleNamespace(max_steps=7)
    found = task.configure_optimizers()
    for _ in range(5):
        found["optimizer"].step()
        found["lr_scheduler"]["scheduler"].step()
    (rate,) = found["lr_scheduler"]["scheduler"].get_last_lr()
    assert rate == pytest.approx(polynomial_with_warmup(5, laid_out_for, settings))
