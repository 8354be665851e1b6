"""Dense encoders by the names their papers gave them."""

import inspect
from collections.abc import Callable
from typing import Any

from lexiseg.clip.towers.convnext import ConvNextTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense.base import DenseReading
from lexiseg.dense.convolutional import ConvolutionalCLIP
from lexiseg.dense.names import DENSE_ENCODERS
from lexiseg.errors import ConfigError

CONVOLUTIONAL_READINGS = ("clip", "pixelclip")
"""The methods that a tower without attention can be read by; there both are the same."""


def build_dense(name: str, tower: VisionTower | ConvNextTower, **settings: Any) -> DenseReading:
    """Read a frozen tower by one of the methods.

    Args:
        name: A key of :data:`~lexiseg.dense.names.DENSE_ENCODERS`.
        tower: The frozen image tower, shared and never changed.
        settings: The method's own constructor arguments; its class says which.

    Raises:
        ConfigError: No such method, a setting that the method does not have, or a method that needs attention on
            a tower that has none.
    """
    if name not in DENSE_ENCODERS:
        raise ConfigError(f"no dense encoder '{name}'; choose one of {', '.join(DENSE_ENCODERS)}")
    builder = _builder(name, tower)
    accepted = [key for key in inspect.signature(builder).parameters if key != "tower"]
    unknown = sorted(settings.keys() - set(accepted))
    if unknown:
        raise ConfigError(
            f"{name} has no setting {', '.join(map(repr, unknown))}; its settings are {', '.join(accepted)}"
        )
    return builder(tower, **settings)


def dense_settings(name: str, tower: VisionTower | ConvNextTower, **given: Any) -> dict[str, Any]:
    """Every setting of a method on a tower: those given, and its own defaults for the rest; for result files."""
    parameters = inspect.signature(_builder(name, tower)).parameters.values()
    defaults = {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}
    return {**defaults, **given}


def _builder(name: str, tower: VisionTower | ConvNextTower) -> Callable[..., DenseReading]:
    if isinstance(tower, VisionTower):
        return DENSE_ENCODERS[name]
    if name not in CONVOLUTIONAL_READINGS:
        raise ConfigError(
            f"{name} reads the attention of a ViT, and the image tower of this CLIP is a ConvNeXt, which has none; "
            f"choose the method {' or '.join(CONVOLUTIONAL_READINGS)}, or a CLIP with a ViT"
        )
    return ConvolutionalCLIP
