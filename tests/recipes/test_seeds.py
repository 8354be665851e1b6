"""The seed of a run decides data order and augmentation, as conf/train.yaml promises, and never the data themselves."""

import dataclasses

import pytest
import torch

from lexiseg.cli.composing import compose_config, plain
from lexiseg.data.sampler import ResumableSampler
from lexiseg.data.toy.world import TOY_UNSEEN, ToyWorld
from lexiseg.data.transforms import train_recipe
from lexiseg.recipes import SplitSettings, TrainingData, TrainRun, train
from lexiseg.recipes.records import build, open_split_and_data, training_run

SMALL = {
    "train": ["experiment=toy", "data.train.length=23", "data.val.length=2", "data.batch_size=3"],
    "pixelclip": ["experiment=pixelclip/toy", "mask_data.train.dataset.length=23", "mask_data.batch_size=3"],
}


def open_data(command, *overrides):
    record = plain(compose_config(command, [*SMALL[command], *overrides]))
    return open_split_and_data(record)[1] if command == "train" else build(record["mask_data"])


def order(data):
    sampler = data.train_dataloader().sampler
    assert isinstance(sampler, ResumableSampler)
    stream = iter(sampler)
    return [next(stream)[0] for _ in range(23)]


def first_sample(data):
    """Pixels of scene 5 at position 5, whatever the order: what differs is the augmentation alone."""
    drawn = data.train_dataloader().dataset[5]
    return torch.as_tensor(drawn.image if hasattr(drawn, "image") else drawn[0].strong)


@pytest.mark.parametrize("command", ["train", "pixelclip"])
def test_two_seeds_give_two_orders_and_two_augmentations(command):
    one, again, two = (open_data(command, f"seed={seed}") for seed in (1, 1, 2))
    assert order(one) == order(again)
    assert order(one) != order(two)
    assert sorted(order(one)) == sorted(order(two)) == list(range(23))
    assert torch.equal(first_sample(one), first_sample(again))
    assert not torch.equal(first_sample(one), first_sample(two))


def test_the_world_stays_whatever_the_seed():
    one, two = (open_data("train", f"seed={seed}") for seed in (1, 2))
    for part in ("train", "val"):
        ours, theirs = getattr(one, part)[0], getattr(two, part)[0]
        assert (ours.image == theirs.image).all()
        assert (ours.label == theirs.label).all()


def test_the_order_alone_can_be_pinned():
    """How a run goes on that was started when every run had data order 0."""
    assert order(open_data("train", "seed=2", "data.seed=0")) == order(open_data("train", "seed=0"))


class _EnoughError(Exception):
    """The run has handed on its seed."""


def test_a_run_hands_its_seed_to_data_and_weights(tmp_path, monkeypatch):
    """Also from Python, where no configuration file copies it."""
    opened, drawn, module = [], [], TrainingData.module

    def stop(*_):
        drawn.append(torch.rand(5))  # what the first weight would be drawn from
        raise _EnoughError

    monkeypatch.setattr("lexiseg.recipes.training.build_task", stop)
    monkeypatch.setattr(TrainingData, "module", lambda *args: opened.append(module(*args)) or opened[-1])
    world = ToyWorld(partition="train", length=23, image_size=[40, 56], seed=0)
    data = TrainingData(world, world, train_transform=train_recipe(base=[40, 56], crop=[32, 40]))
    for seed in (1, 1, 2):
        with pytest.raises(_EnoughError):
            train(TrainRun(data, SplitSettings("toy", unseen=TOY_UNSEEN), tmp_path, seed=seed))
    one, again, two = opened
    assert order(one) == order(again) != order(two)
    assert torch.equal(first_sample(one), first_sample(again))
    assert not torch.equal(first_sample(one), first_sample(two))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_record_s_run_takes_another_seed_whole():
    run = training_run(plain(compose_config("train", SMALL["train"])))
    split = run.split.of(run.data.train.classes)
    one, two = (
        changed.data.module(split, changed.seed)
        for changed in (run, dataclasses.replace(run, seed=run.seed + 1, record=None))
    )
    assert order(one) != order(two)
