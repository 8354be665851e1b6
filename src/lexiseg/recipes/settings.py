"""The settings that runs share, as dataclasses: whoever starts a run, a command or Python, says it in these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from lexiseg.clip.loading import TOY_CLIP, FrozenCLIP, load_clip
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.data.resuming import MOST_SAMPLES, MOST_WORKERS
from lexiseg.data.splits import make_split
from lexiseg.data.transforms import Transform
from lexiseg.errors import ConfigError
from lexiseg.plain_settings import require_known_keys, require_plain_settings, within
from lexiseg.types import ClassSplit, SegmentationDataset, Setting, UnseenPixels

Settings = TypeVar("Settings")

Resume = Literal["auto"] | bool | str | Path
"""Where a run goes on: ``auto`` or True where its folder's last.ckpt stands, False from the start, or a checkpoint's path."""


@dataclass(frozen=True)
class ClipSource:
    """Which CLIP a run stands on; the arguments of :func:`~lexiseg.clip.loading.load_clip`."""

    source: str = TOY_CLIP
    tokenizer: str | None = None
    activation: Literal["auto", "quick_gelu", "gelu"] = "auto"
    vision_heads: int | None = within(None, at_least=1)
    text_heads: int | None = within(None, at_least=1)

    def __post_init__(self) -> None:
        """Refuse values of another type before any weight is read."""
        object.__setattr__(self, "source", str(self.source))
        require_plain_settings(self, "clip")

    def load(self, *, pooled: bool = True) -> FrozenCLIP:
        """Load it, frozen and in float32.

        Args:
            pooled: Refuse one whose words are no vectors of the space that images are in.

        Raises:
            LexisegError: It cannot be loaded, or is such a one.
        """
        clip = load_clip(**vars(self))
        if pooled and clip.text_tower is not None and not clip.text_tower.pools:
            raise ConfigError(
                f"clip.source={self.source}: a {clip.tower.kind} reads words token by token and compares no vectors; give a "
                f"CLIP, and use this one by the method {clip.tower.own_reading}"
            )
        return clip


@dataclass(frozen=True)
class SplitSettings:
    """How a data set's classes are parted; the arguments of :func:`~lexiseg.data.splits.make_split`."""

    name: str = "custom"
    unseen: Sequence[str] = ()
    seen: Sequence[str] | None = None
    setting: Setting = "inductive"
    unseen_pixels: UnseenPixels = "shown"

    def __post_init__(self) -> None:
        """Refuse values of another type before the classes are known."""
        require_plain_settings(self, "split")

    def of(self, classes: Sequence[str]) -> ClassSplit:
        """The split of these classes.

        Raises:
            ConfigError: A name that is no class of them, or a setting that does not exist.
        """
        return make_split(classes, **vars(self))


@dataclass(frozen=True)
class TrainingData:
    """What a run draws from and is judged on.

    Attributes:
        train: Training data set, labels of all classes.
        val: Validation data set with the same classes.
        train_transform: See :func:`~lexiseg.data.transforms.train_recipe`; None: samples as they are.
        batch_size: Samples per process and step.
        val_batch_size: More than 1 needs validation images of one size.
        num_workers: Loader processes per training process.
        seed: Of the order and the augmentation; None: the run's.
        overfit: Draw from the first so many training images alone, each augmented the same way every time; 0: from all.
        root: Where the data lie, for the record.
        cache_dir: Folder that remembers scans of label maps; None: nothing is remembered.
    """

    train: SegmentationDataset
    val: SegmentationDataset
    train_transform: Transform | None = None
    batch_size: int = within(4, at_least=1, at_most=MOST_SAMPLES)
    val_batch_size: int = within(1, at_least=1, at_most=MOST_SAMPLES)
    num_workers: int = within(2, at_least=0, at_most=MOST_WORKERS)
    seed: int | None = within(None, at_least=0, below=2**32)
    overfit: int = within(0, at_least=0)
    root: str | Path | None = None
    cache_dir: str | Path | None = None

    def __post_init__(self) -> None:
        """Refuse values of another type before a label is looked at."""
        require_plain_settings(self, "data")
        for key in ("train", "val"):
            dataset = getattr(self, key)
            if not hasattr(dataset, "classes"):
                raise ConfigError(
                    f"data.{key}: expected a data set, got {dataset!r}; leave it out for that of data=…"
                )

    def module(self, split: ClassSplit, seed: int) -> SegmentationDataModule:
        """The data module of a run with this seed.

        Raises:
            ConfigError: Classes of the data sets and the split differ, or a size is not positive.
        """
        own = {"seed": seed if self.seed is None else self.seed, "split": split}
        return SegmentationDataModule(**{**vars(self), **own})


@dataclass(frozen=True)
class TrainerSettings:
    """Where and how long a run goes.

    Attributes:
        max_steps: Optimiser steps.
        accelerator: ``auto``, ``cpu``, ``gpu`` …
        devices: How many, or -1 for all.
        precision: ``32-true``, ``bf16-mixed`` …
        accumulate_grad_batches: Batches per optimiser step.
        strategy: ``auto``, ``ddp`` …
        published_batch: Images of an optimiser step over all processes, as the recipe was published; a run with others says so.
            None: nobody published any.
        more: Further arguments of Lightning's trainer.

    Raises:
        ConfigError: A number below 1.
    """

    max_steps: int = within(1000, at_least=1)
    accelerator: str = "auto"
    devices: int | str | Sequence[int] = 1
    precision: str | int = "32-true"
    accumulate_grad_batches: int = within(1, at_least=1, at_most=MOST_SAMPLES)
    strategy: str = "auto"
    published_batch: int | None = within(None, at_least=1)
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a run without a step."""
        require_plain_settings(self, "trainer")

    def arguments(self) -> dict[str, Any]:
        """As Lightning's trainer takes them."""
        own = {key: value for key, value in vars(self).items() if key not in ("published_batch", "more")}
        return {**own, **self.more}


@dataclass(frozen=True)
class ValidationSettings:
    """When a run is judged, and what is drawn of it.

    Attributes:
        every_steps: Optimiser steps between validations.
        panels: Pictures of validation images written at each validation.

    Raises:
        ConfigError: Below 1 step, or below 0 pictures.
    """

    every_steps: int = within(250, at_least=1)
    panels: int = within(4, at_least=0)

    def __post_init__(self) -> None:
        """Refuse what no run can do."""
        require_plain_settings(self, "validation")


@dataclass(frozen=True)
class CheckpointSettings:
    """What is kept of a run.

    Attributes:
        every_steps: Optimiser steps between writes of last.ckpt: what a kill costs at most.
        monitor: The validation score that decides best.ckpt.

    Raises:
        ConfigError: Below 1 step.
    """

    every_steps: int = within(100, at_least=1)
    monitor: str = "val/harmonic"

    def __post_init__(self) -> None:
        """Refuse what no run can do."""
        require_plain_settings(self, "checkpoint")


def known_settings(kind: type[Settings], values: Mapping[str, Any], group: str) -> Settings:
    """Plain values, as a configuration holds them, as the settings of ``kind``.

    Raises:
        ConfigError: A key that it does not have, or a bad value.
    """
    require_known_keys(values, kind, group)
    return kind(**values)


def require_limit(limit: object) -> None:
    """Refuse what is no number of images.

    Raises:
        ConfigError: Neither null nor a whole number from 1.
    """
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ConfigError(
            f"limit: expected a whole number of at least 1, or null for all images, got {limit!r}"
        )


def require_changes(protocol: object) -> None:
    """Refuse changes to a protocol that are no settings by name.

    Raises:
        ConfigError: Something else came.
    """
    if not isinstance(protocol, Mapping):
        raise ConfigError(
            f"protocol: expected settings by name, such as protocol.window=224, got {protocol!r}"
        )


def require_resume(resume: object, init_from: object = None, backbone_weights: object = None) -> None:
    """Refuse what names no checkpoint to go on or to start from.

    Raises:
        ConfigError: ``resume`` is not auto, true, false or a path, or the others are no paths, or both given.
    """
    if not isinstance(resume, bool | str | Path | None):
        raise ConfigError(f"resume: expected auto, true, false or the path of a checkpoint, got {resume!r}")
    if not isinstance(init_from, str | Path | None):
        raise ConfigError(f"init_from: expected the path of a checkpoint, or null, got {init_from!r}")
    if not isinstance(backbone_weights, str | Path | None):
        raise ConfigError(
            f"backbone_weights: expected a file, a folder or a hub name, or null, got {backbone_weights!r}"
        )
    if init_from and backbone_weights:
        raise ConfigError(
            "init_from brings the whole model, its encoder too; leave backbone_weights out, or init_from"
        )
