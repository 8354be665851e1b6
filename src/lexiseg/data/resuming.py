"""A training stream that Lightning resumes exactly: the position follows from the step and nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lexiseg.data.sampler import ENDLESS, ResumableSampler
from lexiseg.errors import ConfigError
from lexiseg.interruption import load_quietly

Drawn = TypeVar("Drawn")


MOST_SAMPLES = 2**16
"""Of a batch: more than any memory holds, few enough for every counter behind it."""

MOST_WORKERS = 256
"""Loader processes; more would only crowd out the machine."""


def require_count(key: str, value: object, least: int, most: int) -> None:
    """Refuse a number of samples or processes that no loader can have.

    Raises:
        ConfigError: No whole number, too small or too large.
    """
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(f"{key}: expected a whole number from {least} to {most}, got {value!r}")


class PositionedStream(Dataset[Drawn], ABC, Generic[Drawn]):
    """Samples by ``(index, position)``, drawn by a generator seeded with ``(seed, position)`` alone.

    So it does not matter which worker makes them. A bare index counts as its own position: that is what Lightning's
    ``overfit_batches`` asks for, and it makes the few batches the same every time.

    Args:
        size: Samples that can be drawn from.
        seed: Of the augmentation.
        fixed: Draw each sample the same way at every position.
    """

    def __init__(self, *, size: int, seed: int, fixed: bool = False) -> None:
        self.size, self.seed, self.fixed = size, seed, fixed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: tuple[int, int] | int) -> Drawn:
        index, position = (key, key) if isinstance(key, int) else key
        return self.draw(index, np.random.default_rng((self.seed, index if self.fixed else position)))

    @abstractmethod
    def draw(self, index: int, rng: np.random.Generator) -> Drawn:
        """Sample ``index``, with all randomness from ``rng``."""


def stack_images(images: Sequence[np.ndarray]) -> Tensor:
    """``(H, W, 3)`` each, all of one size, to ``(B, 3, H, W)``."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


class ResumingDataModule(pl.LightningDataModule):
    """What data modules share: one endless epoch, shared out among processes, resumed by position.

    The trainer's ``max_steps`` ends the epoch. After a resume the stream goes on at the position that
    ``trainer.global_step`` implies. Under several processes the trainer needs
    ``use_distributed_sampler=False``: the samplers here already share out the work.

    Args:
        batch_size: Samples per process and step.
        num_workers: Loader processes per training process; the batches do not depend on it.
        seed: Of the order and the augmentation.

    Raises:
        ConfigError: A size below 1 or a negative number of workers.
    """

    def __init__(self, *, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        require_count("batch_size", batch_size, 1, MOST_SAMPLES)
        require_count("num_workers", num_workers, 0, MOST_WORKERS)
        require_count("seed", seed, 0, 2**32 - 1)
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    @property
    def start_position(self) -> int:
        """First position of the stream that no finished step has used, over all processes."""
        trainer = self.trainer
        return 0 if trainer is None else trainer.global_step * self._samples_per_step

    @property
    def place(self) -> tuple[int, int]:
        """Rank and number of processes.

        Raises:
            ConfigError: The trainer would replace the samplers.
        """
        trainer = self.trainer
        if trainer is None:
            return 0, 1
        connector = getattr(trainer, "_accelerator_connector", None)
        if trainer.world_size > 1 and getattr(connector, "use_distributed_sampler", False):
            raise ConfigError(
                "under several processes the trainer would replace the samplers of this data module, which "
                "already share out the samples; set trainer.use_distributed_sampler=false"
            )
        return trainer.global_rank, trainer.world_size

    def training_sampler(self, size: int) -> ResumableSampler:
        """This process's share of the endless stream over ``size`` samples, from ``start_position`` on."""
        rank, world = self.place
        return ResumableSampler(
            size=size,
            seed=self.seed,
            rank=rank,
            world=world,
            start=self.start_position,
            length=self._planned_samples(),
        )

    def loader(
        self, dataset: Dataset[Any], sampler: Sampler[Any], size: int, collate: Callable[[Any], Any]
    ) -> DataLoader[Any]:
        """Batches of ``size`` from ``num_workers`` processes that stay alive between epochs."""
        return DataLoader(
            dataset,
            batch_size=size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=load_quietly,
            # A loader draws its workers' seed from here; from the global generator it would shift dropout by one
            # draw per validation, and a run resumed at a validation would not repeat the uninterrupted one.
            generator=torch.Generator().manual_seed(self.seed),
        )

    @property
    def _samples_per_step(self) -> int:
        """Positions that one optimiser step uses up over all processes."""
        trainer = self.trainer
        if trainer is None:
            return self.batch_size
        return self.batch_size * trainer.accumulate_grad_batches * trainer.world_size

    def _planned_samples(self) -> int:
        """Samples per process of the whole run, however much of it is done.

        Lightning counts finished batches of an epoch from the checkpoint, so the length must not shrink.
        """
        trainer = self.trainer
        if trainer is None or trainer.max_steps is None or trainer.max_steps < 0:
            return ENDLESS
        return trainer.max_steps * trainer.accumulate_grad_batches * self.batch_size
