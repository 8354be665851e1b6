"""Dense encoders by the names their papers gave them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lexiseg.dense.base import DenseReading
from lexiseg.dense.names import DENSE_ENCODERS
from lexiseg.dense.tower_reading import TowerReading
from lexiseg.dense.wants import left_wanting
from lexiseg.errors import ConfigError, UnavailableError
from lexiseg.plain_settings import plain_arguments
from lexiseg.types import ImageTower

BLOCKLESS_READINGS = ("clip", "pixelclip")
"""The methods that a tower without attention blocks can be read by; there both are the tower's own reading."""


@dataclass(frozen=True)
class OwnReading:
    """A method for towers of one kind; no other method reads these, nor it another.

    Attributes:
        clip: Hub name of such a tower.
        reads: What it reads of it, as the beginning of a sentence that says that another tower makes none.
        instead: What the towers do in place of patches.
        called: Such a tower, with its article.
    """

    clip: str
    reads: str
    instead: str
    called: str


OWN_READINGS = {
    "groupvit": OwnReading(
        "nvidia/groupvit-gcc-yfcc",
        "the groups that a GroupViT gathers its patches in",
        "gathers them in groups on the way",
        "a GroupViT",
    ),
    "sam3": OwnReading(
        "facebook/sam3", "the answers of a SAM 3 to words", "answers words with masks", "a SAM 3"
    ),
}
"""By the method's name."""


def build_dense(name: str, tower: ImageTower, **settings: Any) -> DenseReading:
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
    settings = plain_arguments(builder, settings, name, leave=("tower",))
    try:
        return builder(tower, **dense_settings(name, tower, **settings))
    except UnavailableError as error:
        named = settings.get("bank") is not None or settings.get("proxy") is not None
        wanting = left_wanting(name, proxy=named, masks=True, sam=settings.get("sam") is not None)
        if not wanting:
            raise
        raise UnavailableError(f"{error}; {name} {wanting.removeprefix('it ')}") from error


def dense_settings(name: str, tower: ImageTower, **given: Any) -> dict[str, Any]:
    """Every setting of a method on a tower: those given, and its own defaults for the rest; for result files.

    The published ways of resizing a position embedding belong to CLIP; a tower with a way of its own keeps it.
    """
    parameters = inspect.signature(_builder(name, tower)).parameters.values()
    defaults = {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}
    if tower.position_mode is not None and "position_mode" in defaults:
        defaults["position_mode"] = tower.position_mode
    return {**defaults, **given}


def _builder(name: str, tower: ImageTower) -> Callable[..., DenseReading]:
    own, wanted = tower.own_reading, OWN_READINGS.get(name)
    if wanted is not None and own != name:
        raise ConfigError(
            f"{name} reads {wanted.reads}, and the image tower of this CLIP ({tower.kind}) makes none; give {wanted.called} "
            f"such as {wanted.clip}, or choose another method"
        )
    if own is not None and own != name:
        raise ConfigError(
            f"{name} reads patches one by one, and the image tower of this CLIP ({tower.kind}) {OWN_READINGS[own].instead}; "
            f"choose the method {own}, or a CLIP with a ViT"
        )
    if tower.has_blocks or own is not None or name == "pixelclip":
        return DENSE_ENCODERS[name]
    if name not in BLOCKLESS_READINGS:
        raise ConfigError(
            f"{name} reads the attention of a ViT, and the image tower of this CLIP ({tower.kind}) has none; "
            f"choose the method {' or '.join(BLOCKLESS_READINGS)}, or a CLIP with a ViT"
        )
    return TowerReading
