import inspect
import warnings
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from PIL import Image

from lexiseg.data.label_regions import RegionMap
from lexiseg.data.mask_datamodule import CHECKED, MaskDataModule, collate_views
from lexiseg.data.mask_views import TwoViews, Views
from lexiseg.data.sampler import ENDLESS
from lexiseg.data.unlabelled import MaskedImage
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.types import MaskBatch
from resuming_cases import check_resume

CONF = Path(__file__).parents[2] / "conf" / "pixelclip" / "mask_data"


class Photos:
    """Noise with vertical bands as masks; the photographs numbered in ``bare`` have none."""

    def __init__(self, count=7, bare=()):
        self.count, self.bare = count, bare

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        size = (41 + 2 * index, 67 - 3 * index)
        image = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        count = 0 if index in self.bare else index + 2
        bands = 1 + np.arange(size[1]) * count // size[1] if count else np.zeros(size[1], int)
        return MaskedImage(image, RegionMap(np.broadcast_to(bands, size), count), f"p{index}")


def module(train=None, **options):
    views = TwoViews(short_side=37, crop=29, size=19, mask_size=13)
    return MaskDataModule(
        train=train or Photos(), views=views, **{"num_workers": 0, "batch_size": 2, **options}
    )


def take(loader, count):
    return list(islice(loader, count))


def same(left, right):
    pairs = zip(
        (left.weak, left.strong, left.masks, left.image_of_mask),
        (right.weak, right.strong, right.masks, right.image_of_mask),
        strict=True,
    )
    return left.names == right.names and all(torch.equal(a, b) for a, b in pairs)


def fake_trainer(**options):
    settings = {
        "global_step": 0,
        "accumulate_grad_batches": 1,
        "world_size": 1,
        "global_rank": 0,
        "max_steps": -1,
    }
    return SimpleNamespace(**{**settings, **options})


def test_batch_shapes_and_owners():
    batch = take(module(batch_size=3).train_dataloader(), 1)[0]
    assert batch.weak.shape == batch.strong.shape == (3, 3, 19, 19)
    assert batch.weak.dtype == batch.strong.dtype == torch.uint8
    assert batch.masks.shape[1:] == (13, 13)
    assert batch.masks.dtype == torch.bool
    assert batch.image_of_mask.dtype == torch.int64
    assert len(batch.masks) == len(batch.image_of_mask)
    assert batch.image_of_mask.diff().min() >= 0
    assert len(batch) == len(batch.names) == 3


def test_one_of_a_batch_equals_a_batch_of_one():
    pairs = take(module().train_dataloader(), 3)
    singles = take(module(batch_size=1).train_dataloader(), 6)
    for index, single in enumerate(singles):
        pair, place = pairs[index // 2], index % 2
        assert torch.equal(pair.strong[place], single.strong[0])
        assert torch.equal(pair.masks[pair.image_of_mask == place], single.masks)
        assert pair.names[place] == single.names[0]


def test_stream_does_not_depend_on_workers():
    alone = take(module(seed=3).train_dataloader(), 6)
    helped = take(module(seed=3, num_workers=2).train_dataloader(), 6)
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))
    other = take(module(seed=4).train_dataloader(), 6)
    assert not any(same(a, b) for a, b in zip(alone, other, strict=True))


def test_a_photograph_is_augmented_anew_each_epoch():
    first, second = take(module(batch_size=7).train_dataloader(), 2)
    place = second.names.index(first.names[0])
    assert not torch.equal(first.weak[0], second.weak[place])


def test_resuming_continues_at_the_next_unused_sample():
    whole = take(module().train_dataloader(), 12)
    later = module()
    later.trainer = fake_trainer(global_step=3, accumulate_grad_batches=2)
    assert later.start_position == 12
    assert all(same(a, b) for a, b in zip(whole[6:], take(later.train_dataloader(), 6), strict=True))


def test_two_processes_share_one_stream():
    whole = [name for batch in take(module().train_dataloader(), 6) for name in batch.names]
    shares = []
    for rank in (0, 1):
        one = module()
        one.trainer = fake_trainer(world_size=2, global_rank=rank, global_step=1)
        shares.append([name for batch in take(one.train_dataloader(), 2) for name in batch.names])
    assert [name for pair in zip(*shares, strict=True) for name in pair] == whole[4:12]


def test_planned_length_does_not_shrink_on_resume():
    one = module()
    assert len(one.train_dataloader()) == ENDLESS // 2
    one.trainer = fake_trainer(max_steps=10, accumulate_grad_batches=3, global_step=4)
    assert len(one.train_dataloader()) == 30


def test_trainer_that_would_replace_samplers_is_refused():
    one = module()
    connector = SimpleNamespace(use_distributed_sampler=True)
    one.trainer = fake_trainer(world_size=2, _accelerator_connector=connector)
    with pytest.raises(ConfigError, match=r"set trainer.use_distributed_sampler=false"):
        one.train_dataloader()


def test_images_without_masks_stay_and_own_nothing():
    views = Views(*np.zeros((2, 5, 5, 3), np.uint8), np.ones((2, 3, 3), bool))
    bare = Views(*np.ones((2, 5, 5, 3), np.uint8), np.zeros((0, 3, 3), bool))
    batch = collate_views([(bare, "x"), (views, "y"), (bare, "z"), (views, "w")])
    assert batch.image_of_mask.tolist() == [1, 1, 3, 3]
    assert batch.masks.shape == (4, 3, 3)
    assert batch.weak[:, 0, 0, 0].tolist() == [1, 0, 1, 0]
    empty = collate_views([(bare, "x"), (bare, "z")])
    assert empty.masks.shape == (0, 3, 3)
    assert empty.image_of_mask.tolist() == []


def test_batch_moves_whole():
    batch = take(module().train_dataloader(), 1)[0].to("meta")
    assert isinstance(batch, MaskBatch)
    tensors = (batch.weak, batch.strong, batch.masks, batch.image_of_mask)
    assert {str(tensor.device) for tensor in tensors} == {"meta"}
    assert batch.names


def test_check_masks_counts_images_without_any():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module().check_masks() == 0
    with pytest.warns(UserWarning, match=r"2 of 7 images looked at have no mask \(p1, p4\)"):
        assert module(Photos(bare=(1, 4))).check_masks() == 2
    with pytest.raises(DataError, match=r"none of 7 images looked at has a mask \(p0, p1, p2, p3\)"):
        module(Photos(bare=range(7))).check_masks()


def test_check_masks_looks_all_over_a_large_set():
    class Large(Photos):
        looked = ()

        def __getitem__(self, index):
            self.looked += (index,)
            return MaskedImage(np.zeros((3, 5, 3), np.uint8), RegionMap(np.ones((3, 5), int), 1), str(index))

    large = Large(count=10_000)
    module(large).check_masks()
    assert len(large.looked) == CHECKED
    assert (large.looked[0], large.looked[-1]) == (0, 9_999)


def test_contradictions():
    with pytest.raises(ConfigError, match="batch_size: expected a whole number from 1 to 65536, got 0"):
        module(batch_size=0)
    with pytest.raises(ConfigError, match="num_workers: expected a whole number from 0 to 256, got -1"):
        module(num_workers=-1)


@pytest.mark.filterwarnings("ignore")
def test_lightning_resumes_in_mid_epoch_with_exactly_the_rest(tmp_path):
    def read(batch):
        note = (batch.names, int(batch.strong.sum()), int(batch.masks.sum()))
        return batch.weak.float().mean() / 255, note

    check_resume(module, read, tmp_path)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_keys_are_constructor_arguments(path):
    assert path.read_text().startswith("# ")

    def check(node):
        if "_target_" in node:
            accepted = set(inspect.signature(get_object(node["_target_"])).parameters)
            assert set(node) - {"_target_", "_partial_"} <= accepted
        for child in node.values():
            if isinstance(child, dict):
                check(child)

    check(OmegaConf.to_container(OmegaConf.load(path)))


def test_toy_configuration_gives_a_batch():
    config = OmegaConf.load(CONF / "toy.yaml")
    config.train.dataset.length, config.batch_size = 5, 3
    data = instantiate(config)
    batch = next(iter(data.train_dataloader()))
    assert batch.weak.shape == (3, 3, config.views.size, config.views.size)
    assert len(batch.masks) > 6


def test_toy_configuration_takes_masks_of_another_kind():
    config = OmegaConf.load(CONF / "toy.yaml")
    config.train.dataset.length = 2
    config.train.make_masks = {"_target_": "lexiseg.masks.superpixels.Superpixels", "regions": [3, 5]}
    item = instantiate(config).train[0]
    assert 5 <= len(item.masks) <= 8


def test_folder_configuration_is_the_published_recipe(tmp_path):
    config = OmegaConf.load(CONF / "folder.yaml")
    assert instantiate(config.views) == TwoViews()
    image = np.random.default_rng(0).integers(0, 256, (41, 67, 3), dtype=np.uint8)
    for folder in ("photos/a", "photos/b"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / folder / "x.png")
    path = tmp_path / "photos" / "b" / "x.png"
    store = MaskStore(tmp_path / "made", tmp_path / "photos")
    store.write(path, MaskSet.from_masks(np.ones((1, 41, 67), bool)), {})
    config.root, config.train.masks.folder = str(tmp_path / "photos"), str(tmp_path / "made")
    config.batch_size, config.num_workers = 1, 0
    with pytest.warns(UserWarning, match="1 of 2 images have no mask file"):
        batch = next(iter(instantiate(config).train_dataloader()))
    assert batch.names == ("b/x.png",)
    assert batch.weak.shape == (1, 3, 320, 320)
    assert batch.masks.shape == (1, 256, 256)
