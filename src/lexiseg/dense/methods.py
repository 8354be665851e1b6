"""Training-free methods by name: a dense encoder, with recalibration and views where the method has them."""

from dataclasses import dataclass
from typing import Any

from lexiseg.clip.towers.convnext import ConvNextTower
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView
from lexiseg.dense.names import METHODS, TG_CLIP
from lexiseg.dense.recalibration import Recalibrated
from lexiseg.dense.registry import CONVOLUTIONAL_READINGS, build_dense
from lexiseg.errors import ConfigError
from lexiseg.types import Segmentable

_TG_STRENGTH = 0.1
"""λ of TG-CLIP, which its paper does not state: a placeholder to sweep."""

_OWN_TEMPLATES = {"gem": "gem", "clip-surgery": "surgery85", "maskclip": "surgery85"}
"""Template sets of those who published with others than ImageNet's 80."""


def published_templates(name: str) -> str:
    """The template set that a method was published with."""
    return _OWN_TEMPLATES.get(name, "imagenet80")


def default_method(tower: VisionTower | ConvNextTower) -> str:
    """The training-free reading taken where neither checkpoint nor method is named."""
    return "sc-clip" if isinstance(tower, VisionTower) else CONVOLUTIONAL_READINGS[0]


@dataclass(frozen=True)
class TrainingFreeMethod:
    """What a segmenter needs of a method.

    Attributes:
        name: As in tables.
        model: Answers for windows.
        views: Which views of an image are read and fused.
    """

    name: str
    model: Segmentable
    views: MultiView


def build_method(
    name: str,
    tower: VisionTower | ConvNextTower,
    *,
    strength: float | None = None,
    temperature: float = 2.0,
    views: MultiView | None = None,
    **settings: Any,
) -> TrainingFreeMethod:
    """Build a method on a frozen tower; recalibration and views may be put around any encoder.

    Args:
        name: One of :data:`~lexiseg.dense.names.METHODS`.
        tower: The frozen image tower.
        strength: λ of the recalibration; 0.1 for ``tg-clip`` and 0 for the others by default.
        temperature: τ of the recalibration.
        views: Views to fuse; scales 0.75 and 1.25 with a mirror for ``tg-clip``, one view for the others by
            default.
        settings: The encoder's own constructor arguments.

    Raises:
        ConfigError: No such method or setting, or a recalibration of an encoder whose logits are no cosines.
    """
    if name not in METHODS:
        raise ConfigError(f"no training-free method '{name}'; choose one of {', '.join(METHODS)}")
    whole = name == TG_CLIP
    encoder = build_dense("sc-clip" if whole else name, tower, **settings)
    if strength is None:
        strength = _TG_STRENGTH if whole else 0.0
    model = Recalibrated(encoder, strength=strength, temperature=temperature) if strength else encoder
    return TrainingFreeMethod(name, model, views or (MultiView() if whole else SINGLE_VIEW))
