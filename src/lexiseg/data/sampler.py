"""Which sample comes at which position of an endless stream: a pure function, so a run resumes exactly."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from lexiseg.errors import ConfigError

ENDLESS = 2**40
"""Length reported for a stream without a planned end; large, yet a number, because loaders ask for one."""


class ResumableSampler(Sampler[tuple[int, int]]):
    """An endless, stateless stream of ``(index, position)``.

    Positions count over all processes: rank r of w takes ``start + r, start + r + w, ...``. Position p falls
    into epoch ``p // size``; the epoch's order is the permutation drawn from ``(seed, epoch)``. Nothing is
    carried from one position to the next, so starting at ``start`` gives what an uninterrupted stream would
    have given there, whatever the number of workers or of earlier interruptions.

    Args:
        size: Samples in the data set.
        seed: Of the order.
        rank: This process.
        world: Number of processes.
        start: First position, over all processes.
        length: What ``len`` reports for this process; the iteration itself never ends.

    Raises:
        ConfigError: An empty data set or a rank outside the world.
    """

    def __init__(
        self, *, size: int, seed: int, rank: int = 0, world: int = 1, start: int = 0, length: int = ENDLESS
    ) -> None:
        if size < 1:
            raise ConfigError("cannot draw from a data set without samples")
        if not 0 <= rank < world:
            raise ConfigError(f"rank {rank} does not exist among {world} processes")
        self.size, self.seed, self.rank, self.world = size, seed, rank, world
        self.start, self.length = start, length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, epoch, order = self.start + self.rank, -1, np.empty(0, dtype=np.int64)
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                order = epoch_order(self.size, self.seed, epoch)
            yield int(order[position % self.size]), position
            position += self.world

    def __len__(self) -> int:
        return self.length


def epoch_order(size: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The permutation of ``range(size)`` that this epoch follows."""
    return np.random.default_rng((seed, epoch)).permutation(size)


class ShardSampler(Sampler[int]):
    """Every index exactly once over all processes: rank r of w takes ``r, r + w, ...``.

    Nothing is padded or repeated, unlike PyTorch's distributed sampler: a repeated image would count twice in
    a data-set-level score. Ranks may therefore differ by one sample.

    Args:
        size: Samples in the data set.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, *, size: int, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, size, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)
