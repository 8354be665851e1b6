"""Pairs of a region and a word: what is drawn of them, and that position alone decides it."""

import numpy as np
import pytest
import torch

from caption_cases import captioned_scenes, shown
from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.data.pair_datamodule import PairDataModule, PairStream, RegionPairs, random_part
from lexiseg.data.toy.world import TOY_CLASSES
from lexiseg.errors import DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.ops.region_crops import region_crops

SIDE = 24


@pytest.fixture
def scenes(tmp_path):
    """Photographs whose masks bear words, the third's file without a mask."""
    samples = captioned_scenes(tmp_path, 3)
    for index, sample in enumerate(samples):
        (path,) = tmp_path.rglob(f"{sample.name}.png")
        present = shown(sample)[: 0 if index == 2 else 3]
        masks = (
            np.stack([sample.label == each for each in present]) if present else np.zeros((0, 64, 80), bool)
        )
        found = MaskSet.from_masks(masks)
        named = MaskSet.from_runs(found.size, found.runs, words=[TOY_CLASSES[each] for each in present])
        MaskStore().write(path, named, {})
    return tmp_path, samples


def stream(pairs, least_share=1.0):
    return PairStream(pairs=pairs, side=SIDE, colors=(CLIP_MEAN, CLIP_STD), least_share=least_share, seed=5)


def test_a_whole_region_is_cut_as_the_segmenter_cuts_it(scenes):
    folder, samples = scenes
    pairs = RegionPairs(images=folder, pairs=MaskStore())
    assert len(pairs) == 6
    by_name = {f"{sample.name}.png": sample for sample in samples}
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (CLIP_MEAN, CLIP_STD))
    drawer = stream(pairs)
    for index in range(6):
        path, number = pairs.places[index]
        sample = by_name[path.name]
        drawn = drawer[index]
        assert pairs.words[drawn.word] == TOY_CLASSES[shown(sample)[number]]
        image = (torch.from_numpy(sample.image).permute(2, 0, 1) - mean) / std
        mask = torch.from_numpy(sample.label == shown(sample)[number])[None]
        region, inside = region_crops(image, mask, SIDE)
        if random_part(region_size(mask), np.random.default_rng((5, index)), 1.0) == whole(mask):
            torch.testing.assert_close(drawn.region, region[0])
            assert torch.equal(drawn.inside, inside[0])
        assert drawn.region[:, ~drawn.inside].abs().mean() < drawn.region[:, drawn.inside].abs().mean()


def region_size(mask):
    rows, columns = mask[0].any(1).nonzero(), mask[0].any(0).nonzero()
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def whole(mask):
    height, width = region_size(mask)
    return slice(0, height), slice(0, width)


def test_position_alone_decides(scenes):
    pairs = RegionPairs(images=scenes[0], pairs=MaskStore())
    first, again = stream(pairs, 0.5), stream(pairs, 0.5)
    assert torch.equal(first[2, 7].region, again[2, 7].region)
    assert not torch.equal(first[2, 7].region, again[2, 8].region)


def test_batches(scenes):
    pairs = RegionPairs(images=scenes[0], pairs=MaskStore())
    module = PairDataModule(
        pairs=pairs,
        side=SIDE,
        colors=(CLIP_MEAN, CLIP_STD),
        least_share=0.9,
        batch_size=5,
        num_workers=0,
        seed=0,
    )
    batch = next(iter(module.train_dataloader()))
    assert batch.regions.shape == (5, 3, SIDE, SIDE)
    assert batch.masks.shape == (5, SIDE, SIDE)
    assert len(batch.names) == len(batch) == 5
    for word, name in zip(batch.words.tolist(), batch.names, strict=True):
        assert any(path.name == name and pairs.ids[i] == word for i, (path, _) in enumerate(pairs.places))


def test_random_parts_cover_the_shares_and_ratios_asked_for():
    parts = [random_part((97, 61), np.random.default_rng(seed), 0.5) for seed in range(300)]
    sizes = np.array([[part.stop - part.start for part in pair] for pair in parts])
    shares = sizes.prod(1) / (97 * 61)
    assert shares.min() < 0.55
    assert shares.max() <= 1
    ratios = (sizes[:, 1] / 61) / (sizes[:, 0] / 97)
    assert 0.7 < ratios.min() < 0.85
    assert 1.15 < ratios.max() < 1.4
    assert {pair[0].start for pair in parts} > {0, 3}
    assert random_part((1, 1), np.random.default_rng(0), 0.9) == (slice(0, 1), slice(0, 1))


def test_mistakes(tmp_path):
    captioned_scenes(tmp_path, 1)
    with pytest.raises(DataError, match="masks without words; expected what `lexiseg masks pairs` writes"):
        RegionPairs(images=tmp_path, pairs=MaskStore())
    with pytest.raises(DataError, match="make them first: `lexiseg masks pairs`"):
        RegionPairs(images=tmp_path, pairs=MaskStore(tmp_path / "nowhere", tmp_path))
