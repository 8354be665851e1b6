"""From a composed configuration to the objects of a run: the only place where Hydra builds anything."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lexiseg.cli.composing import plain
from lexiseg.clip.loading import FrozenCLIP, load_clip
from lexiseg.data.datamodule import SegmentationDataModule
from lexiseg.data.splits import make_split
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.types import ClassSplit


def build_clip(settings: Mapping[str, Any]) -> FrozenCLIP:
    """Load the CLIP that ``conf/clip`` describes."""
    return load_clip(**dict(settings))


def build_split_and_data(config: DictConfig) -> tuple[ClassSplit, SegmentationDataModule]:
    """Both data sets, the split over their classes, and the data module.

    Raises:
        LexisegError: What the data layer found wrong, without Hydra's wrapping.
    """
    data = config.data
    train, val = (instantiate_config(data[part]) for part in ("train", "val"))
    split = make_split(train.classes, **plain(config.split))
    rest = OmegaConf.masked_copy(data, [key for key in data if key not in ("train", "val")])
    builder = instantiate_config(rest, _partial_=True)
    return split, builder(train=train, val=val, split=split)


def build_protocol(settings: Mapping[str, Any]) -> InferenceProtocol:
    """The inference protocol that ``conf/protocol`` describes."""
    return InferenceProtocol.from_dict(dict(settings))


def instantiate_config(config: Any, **kwargs: Any) -> Any:
    """Hydra's instantiate, with the user's mistake as the error instead of Hydra's account of the call."""
    try:
        return instantiate(config, **kwargs)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, LexisegError):
            raise cause from None
        raise ConfigError(f"{str(error).splitlines()[0]}") from error
