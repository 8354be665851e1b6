"""Training-free methods by name: a dense encoder, with recalibration and views where the method has them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg.clip.model import DEFAULT_CLIP
from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView
from lexiseg.dense.names import DENSE_ENCODERS, METHODS, TG_CLIP
from lexiseg.dense.recalibration import Recalibrated
from lexiseg.dense.region_bank import RegionBank
from lexiseg.dense.registry import OWN_READINGS, build_dense
from lexiseg.dense.wants import wants_bank
from lexiseg.errors import ConfigError
from lexiseg.types import ImageTower, Segmentable

_TG_BASE = "sc-clip"
"""The reading that TG-CLIP recalibrates."""

_TG_STRENGTH = 0.1
"""λ of TG-CLIP, which its paper does not state: a placeholder to sweep."""


def require_method(name: str) -> None:
    """Refuse a name that is no method's.

    Raises:
        ConfigError: Lists the methods.
    """
    if name not in METHODS:
        raise ConfigError(f"no training-free method '{name}'; choose one of {', '.join(METHODS)}")


def require_bank(name: str | None, bank: Path | str) -> None:
    """Refuse a bank that is none, or for a method that looks nothing up, before anything is loaded.

    Args:
        name: Of the method; None: none is named.
        bank: Its folder.

    Raises:
        ConfigError: Says which methods do, or where there is no finished bank.
        DataError: It is damaged.
    """
    if name is None or not wants_bank(name):
        users = " or ".join(filter(wants_bank, METHODS))
        raise ConfigError(
            f"--bank is for {users}, and the method is {name or 'not named'}; name it or drop --bank"
        )
    RegionBank.open(bank)


def published_templates(name: str) -> str:
    """The template set that a method was published with."""
    return DENSE_ENCODERS[_TG_BASE if name == TG_CLIP else name].templates


def default_clip(method: str | None) -> str:
    """The CLIP taken where none is named: the published methods' own, or a tower of the one kind that a method reads."""
    return OWN_READINGS[method].clip if method in OWN_READINGS else DEFAULT_CLIP


def default_method(tower: ImageTower) -> str:
    """The training-free reading taken where neither checkpoint nor method is named.

    SC-CLIP mends the patches of a tower trained on its class token; ``clip`` reads any other as it was trained, but
    some towers have a reading of their own.
    """
    if tower.own_reading is not None:
        return tower.own_reading
    mendable = tower.has_blocks and tower.has_class_token and not tower.aligned_patches
    return "sc-clip" if mendable else "clip"


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
    tower: ImageTower,
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
    require_method(name)
    whole = name == TG_CLIP
    encoder = build_dense(_TG_BASE if whole else name, tower, **settings)
    if strength is None:
        strength = _TG_STRENGTH if whole else 0.0
    model = Recalibrated(encoder, strength=strength, temperature=temperature) if strength else encoder
    return TrainingFreeMethod(name, model, views or (MultiView() if whole else SINGLE_VIEW))
