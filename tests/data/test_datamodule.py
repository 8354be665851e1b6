from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lexiseg.data.datamodule import SegmentationDataModule, collate
from lexiseg.data.datasets.camvid import CamVid
from lexiseg.data.datasets.folder import FolderDataset
from lexiseg.data.sampler import ENDLESS
from lexiseg.data.scan import WithoutClasses
from lexiseg.data.splits import make_split
from lexiseg.data.toy.world import TOY_CLASSES, TOY_UNSEEN, ToyWorld
from lexiseg.data.transforms import train_recipe
from lexiseg.errors import ConfigError, DataError
from lexiseg.types import Sample
from resuming_cases import check_resume, fit


@pytest.fixture
def camvid(trees):
    trees.camvid(stems="abcdefg")
    trees.camvid(stems="uvwxy", partition="val")
    return CamVid(root=trees.root), CamVid(root=trees.root, partition="val")


def module(sets, **options):
    train, val = sets
    split = options.pop("split", None) or make_split(train.classes, name="s", unseen=["tree", "car"])
    options.setdefault("train_transform", train_recipe(base=(40, 17), crop=(13, 19)))
    options.setdefault("num_workers", 0)
    return SegmentationDataModule(train=train, val=val, split=split, **options)


def take(loader, count):
    return list(islice(loader, count))


def same(left, right):
    return (
        left.names == right.names
        and torch.equal(left.images, right.images)
        and torch.equal(left.labels, right.labels)
    )


def fake_trainer(**options):
    settings = {
        "global_step": 0,
        "accumulate_grad_batches": 1,
        "world_size": 1,
        "global_rank": 0,
        "max_steps": -1,
    }
    return SimpleNamespace(**{**settings, **options})


def test_batches_hide_unseen_labels_and_keep_full_ids(camvid):
    batches = take(module(camvid, batch_size=3).train_dataloader(), 8)
    assert batches[0].images.shape == (3, 3, 13, 19)
    assert batches[0].images.dtype == torch.uint8
    assert batches[0].labels.dtype == torch.int64
    seen = {int(i) for batch in batches for i in batch.labels.unique()}
    assert seen == {0, 1, 2, 3, 4, 6, 7, 9, 10, 255}


def test_training_stream_does_not_depend_on_workers(camvid):
    alone = take(module(camvid, batch_size=2, seed=3).train_dataloader(), 6)
    helped = take(module(camvid, batch_size=2, seed=3, num_workers=2).train_dataloader(), 6)
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))
    other = take(module(camvid, batch_size=2, seed=4).train_dataloader(), 6)
    assert not all(same(a, b) for a, b in zip(alone, other, strict=True))


def test_a_sample_is_augmented_anew_each_epoch(camvid):
    by_name = {}
    for batch in take(module(camvid, batch_size=7).train_dataloader(), 3):
        for name, image in zip(batch.names, batch.images, strict=True):
            by_name.setdefault(name, []).append(image)
    assert all(len(images) == 3 for images in by_name.values())
    assert not any(torch.equal(images[0], images[1]) for images in by_name.values())


def test_resuming_continues_at_the_next_unused_sample(camvid):
    whole = take(module(camvid, batch_size=2).train_dataloader(), 12)
    later = module(camvid, batch_size=2)
    later.trainer = fake_trainer(global_step=3, accumulate_grad_batches=2)
    assert later.start_position == 12
    assert all(same(a, b) for a, b in zip(whole[6:], take(later.train_dataloader(), 6), strict=True))


def test_two_processes_share_one_stream(camvid):
    whole = [
        name for batch in take(module(camvid, batch_size=2).train_dataloader(), 6) for name in batch.names
    ]
    shares = []
    for rank in (0, 1):
        one = module(camvid, batch_size=2)
        one.trainer = fake_trainer(world_size=2, global_rank=rank, global_step=1)
        shares.append([name for batch in take(one.train_dataloader(), 2) for name in batch.names])
    assert [name for pair in zip(*shares, strict=True) for name in pair] == whole[4:12]


def test_planned_length_does_not_shrink_on_resume(camvid):
    one = module(camvid, batch_size=2)
    assert len(one.train_dataloader()) == ENDLESS // 2
    one.trainer = fake_trainer(max_steps=10, accumulate_grad_batches=3, global_step=4)
    assert len(one.train_dataloader()) == 30


def test_validation_covers_everything_once_over_two_processes(camvid):
    names = []
    for rank in (0, 1):
        one = module(camvid)
        one.trainer = fake_trainer(world_size=2, global_rank=rank)
        names.append([batch.names[0] for batch in one.val_dataloader()])
    assert names == [["u", "w", "y"], ["v", "x"]]


def test_validation_keeps_all_labels_and_the_image(camvid):
    batch = next(iter(module(camvid).val_dataloader()))
    assert batch.images.shape == (1, 3, 11, 17)
    assert set(batch.labels.unique().tolist()) == {*range(11), 255}


def test_trainer_that_would_replace_samplers_is_refused(camvid):
    one = module(camvid)
    connector = SimpleNamespace(use_distributed_sampler=True)
    one.trainer = fake_trainer(world_size=2, _accelerator_connector=connector)
    with pytest.raises(ConfigError, match=r"set trainer.use_distributed_sampler=false"):
        one.train_dataloader()


def test_excluded_unseen_pixels(trees):
    trees.camvid(stems="ab", ids=[0, 8])
    for stem in "cd":
        trees.image(f"train/{stem}.jpg")
        trees.label(f"trainannot/{stem}.png", [0, 1])
    train = CamVid(root=trees.root)
    split = make_split(train.classes, name="s", unseen=["car"], unseen_pixels="excluded")
    one = module((train, train), split=split, batch_size=2)
    assert isinstance(one.train_set, WithoutClasses)
    assert {name for batch in take(one.train_dataloader(), 4) for name in batch.names} == {"c", "d"}
    unused = make_split(train.classes, name="s", unseen=["tree"], unseen_pixels="excluded")
    assert module((train, train), split=unused).train_set is train


def test_check_training_labels(camvid, trees, caplog):
    scan = module(camvid).check_training_labels()
    assert scan.scanned == 7
    for stem in "abcdefg":
        trees.label(f"trainannot/{stem}.png", [0, 1, 2])
    with pytest.raises(
        DataError, match=r"seen class 'road', 'pavement'.* has no pixel in all 7 training label maps"
    ):
        module(camvid).check_training_labels()
    for stem in "abcdefg":
        trees.label(f"trainannot/{stem}.png", range(12))
    for stem in "uvwxy":
        trees.label(f"valannot/{stem}.png", [0, 1, 2, 4, 5, 6, 7, 8, 9, 10])
    module(camvid).check_training_labels()
    assert caplog.messages == [
        "no pixel of road in 5 validation label maps: such IoU is NaN and does not enter the means"
    ]


def test_thresholded_background_takes_no_part_in_training(trees, caplog):
    root = trees.folder()
    paths = {"images": root / "images/train", "masks": root / "masks/train"}
    names = ["background", "cat", "dog"]
    trees.label("masks/train/a.png", [0, 1, 2])
    dataset = FolderDataset(**paths, classes=names, background="threshold", background_id=0)
    split = make_split(dataset.classes, name="s", unseen=["dog"])
    one = module((dataset, dataset), split=split, train_transform=None, batch_size=1)
    assert take(one.train_dataloader(), 1)[0].labels.unique().tolist() == [1, 255]
    trees.label("masks/train/a.png", [1, 2])
    one.check_training_labels()
    assert caplog.messages[0].startswith("no pixel of background in 1 validation label maps")


def test_collate_refuses_different_sizes():
    samples = [Sample(np.zeros((3, w, 3), np.uint8), np.zeros((3, w), np.uint8), f"s{w}") for w in (5, 7)]
    with pytest.raises(DataError, match=r"came s5 3x5, s7 3x7 .*set data.val_batch_size=1"):
        collate(samples)


def test_contradictions(camvid):
    with pytest.raises(ConfigError, match="split 's' was built for sky, dog"):
        module(camvid, split=make_split(("sky", "dog"), name="s", unseen=["dog"]))
    with pytest.raises(ConfigError, match="batch_size: expected a whole number from 1 to 65536, got 0"):
        module(camvid, batch_size=0)


def brightness(batch):
    return batch.images.float().mean() / 255, (batch.names, int(batch.images.sum()))


@pytest.mark.filterwarnings("ignore")
def test_lightning_resume_sees_exactly_the_rest(camvid, tmp_path):
    check_resume(lambda: module(camvid, batch_size=2), brightness, tmp_path, limit_val_batches=0)


@pytest.mark.filterwarnings("ignore")
def test_lightning_validates_on_steps_and_can_overfit(camvid, tmp_path):
    data = module(camvid, batch_size=2)
    often = {"val_check_interval": 4, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    task = fit(data, brightness, 4, tmp_path, **often)
    assert task.validated == ["u", "v", "w", "x", "y"] * 2
    small = fit(module(camvid, batch_size=2), brightness, 4, tmp_path, overfit_batches=2, limit_val_batches=0)
    assert len(set(small.shown)) == 2


def test_overfitting_draws_the_same_few_samples_every_time():
    world = ToyWorld(partition="train", length=61, image_size=[24, 40], seed=3)
    split = make_split(TOY_CLASSES, name="toy", unseen=TOY_UNSEEN)
    transform = train_recipe(
        base=[24, 40], crop=[24, 24], ratio=[0.5, 2.0], cat_max_ratio=0.75, flip=0.5, distort=True
    )
    data = SegmentationDataModule(
        train=world, val=world, split=split, train_transform=transform, batch_size=3, num_workers=0, overfit=3
    )
    loader = iter(data.train_dataloader())
    first, second = (dict(zip(b.names, b.images, strict=True)) for b in (next(loader), next(loader)))
    assert first.keys() == second.keys()
    assert len(first) == 3
    assert all(torch.equal(image, second[name]) for name, image in first.items())
    with pytest.raises(ConfigError, match="overfit -1"):
        SegmentationDataModule(train=world, val=world, split=split, overfit=-1)


def test_unseen_labels_are_hidden_before_the_crop_is_chosen(camvid):
    """Else an unseen class would steer which crops training sees."""
    shown = []

    def watch(image, label, rng):
        shown.append(np.unique(label))
        return image, label

    one = module(camvid, train_transform=watch, batch_size=1)
    take(one.train_dataloader(), 7)
    unseen = set(one.split.unseen_ids)
    assert unseen & {int(i) for index in range(7) for i in np.unique(one.train[index].label)}
    assert not unseen & set(np.concatenate(shown).tolist())
