from itertools import islice

import pytest

from lexiseg.data.sampler import ENDLESS, ResumableSampler, ShardSampler, epoch_order
from lexiseg.errors import ConfigError


def stream(count, **options):
    return list(islice(ResumableSampler(size=7, seed=5, **options), count))


def test_each_epoch_is_a_permutation_of_its_own():
    drawn = [index for index, _ in stream(21)]
    epochs = [drawn[:7], drawn[7:14], drawn[14:]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[1] == epoch_order(7, 5, 1).tolist()


@pytest.mark.parametrize("start", [0, 1, 6, 7, 20])
def test_starting_later_continues_the_same_stream(start):
    assert stream(9, start=start) == stream(start + 9)[start:]


def test_ranks_share_out_the_stream():
    whole = stream(12)
    shares = [stream(4, rank=rank, world=3) for rank in range(3)]
    assert [share[i] for i in range(4) for share in shares] == whole


def test_iterating_twice_gives_the_same():
    sampler = ResumableSampler(size=7, seed=5, start=3)
    assert list(islice(sampler, 5)) == list(islice(sampler, 5))


def test_length_is_reported_not_enforced():
    assert len(ResumableSampler(size=7, seed=0)) == ENDLESS
    assert len(ResumableSampler(size=7, seed=0, length=3)) == 3
    assert len(stream(10, length=3)) == 10


def test_mistakes():
    with pytest.raises(ConfigError, match="without samples"):
        ResumableSampler(size=0, seed=0)
    with pytest.raises(ConfigError, match="rank 2 does not exist among 2"):
        ResumableSampler(size=3, seed=0, rank=2, world=2)


def test_shards_cover_everything_once_without_padding():
    shards = [ShardSampler(size=11, rank=rank, world=3) for rank in range(3)]
    assert [len(shard) for shard in shards] == [4, 4, 3]
    assert sorted(index for shard in shards for index in shard) == list(range(11))
    assert list(shards[1]) == [1, 4, 7, 10]
