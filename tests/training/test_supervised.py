"""Fully supervised training: labels of all classes in, no penalty out, and a best checkpoint without an unseen group."""

import numpy as np
import pytest
import torch

from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.cli.composing import compose_config, plain
from lexiseg.recipes import train
from lexiseg.recipes.records import open_split_and_data, training_run
from lexiseg.training.task import SegmentationTask

SMALL = [
    "resume=false",
    "trainer=cpu",
    "trainer.max_steps=2",
    "optim.warmup_steps=2",
    "data.train.length=200",
    "data.train.image_size=[40,56]",
    "data.train_transform.base=[40,56]",
    "data.train_transform.crop=[40,56]",
    "data.val.image_size=[40,56]",
    "data.val.length=8",
    "data.batch_size=2",
    "validation.panels=0",
    "model.prompt_length=3",
    "protocol.short_side=48",
]


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("split", "unseen"), [("split.setting=supervised", True), ("split=all", False)])
def test_a_run(tmp_path, monkeypatch, split, unseen):
    seen_labels, queries = set(), []
    original = SegmentationTask.training_step

    def watch(self, batch, index):
        seen_labels.update(torch.unique(batch.labels).tolist())
        queries.append(len(self.text))
        return original(self, batch, index)

    monkeypatch.setattr(SegmentationTask, "training_step", watch)
    config = compose_config("train", [*SMALL, split, f"output_dir={tmp_path}"])
    scores = train(training_run(plain(config)))
    checkpoint = load_tensors_only(tmp_path / "best.ckpt")["lexiseg"]
    assert checkpoint["split"]["setting"] == "supervised"
    assert checkpoint["protocol"]["seen_penalty"] == 0
    assert queries == [42, 42], "every class is a query"
    assert seen_labels <= {*range(42), 255}
    assert np.isnan(scores["unseen"]) != unseen


def test_no_label_is_hidden():
    hidden, shown = (
        open_split_and_data(plain(compose_config("train", ["split=toy", f"split.setting={setting}"])))[
            1
        ].training_table
        for setting in ("inductive", "supervised")
    )
    assert shown[:42].tolist() == list(range(42))
    assert (hidden[:42] == 255).sum() == 9


@pytest.mark.parametrize("data", ["voc", "context", "coco"])
def test_published_ceilings(data):
    """As the inductive experiment, but for labels and penalty."""
    base, ceiling = (
        compose_config("train", [f"experiment=cascade_{data}{end}"]) for end in ("", "_supervised")
    )
    assert (ceiling.split.setting, ceiling.protocol.seen_penalty) == ("supervised", 0)
    assert ceiling.split.unseen == base.split.unseen, "the split still parts the score"
    assert ceiling.model == base.model
    assert ceiling.trainer == base.trainer
    assert ceiling.templates == base.templates
