"""Training-free methods by name: a dense encoder, with recalibration and views where the method has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lexiseg.clip.model import DEFAULT_CLIP
from lexiseg.dense.multi_view import SINGLE_VIEW, MultiView
from lexiseg.dense.names import DENSE_ENCODERS, METHODS, TG_CLIP, TG_CLIP_TEXT, encoder_name
from lexiseg.dense.recalibration import Recalibrated, require_pull
from lexiseg.dense.registry import OWN_READINGS, build_dense, dense_settings
from lexiseg.errors import ConfigError, did_you_mean
from lexiseg.plain_settings import plain_arguments
from lexiseg.types import ImageTower, Segmentable

_TG_STRENGTH = 0.1
"""λ of TG-CLIP, which its paper does not state: a placeholder to sweep."""

_RECALIBRATION: dict[str, dict[str, Any]] = {
    TG_CLIP: {"strength": _TG_STRENGTH},
    TG_CLIP_TEXT: {"strength": _TG_STRENGTH, "unit_features": False, "after_upsampling": True},
}
"""Of the methods that recalibrate; the others do where a strength is given."""


def require_method(name: str) -> None:
    """Refuse a name that is no method's.

    Raises:
        ConfigError: Says which was meant, or lists the methods.
    """
    if name not in METHODS:
        near = did_you_mean(name, METHODS)
        raise ConfigError(
            f"no training-free method '{name}'{near or '; choose one of ' + ', '.join(METHODS)}"
        )


def published_templates(name: str) -> str:
    """The template set that a method was published with."""
    return DENSE_ENCODERS[encoder_name(name)].templates


def published_views(name: str) -> MultiView:
    """The views that a method was published with."""
    return MultiView() if name in _RECALIBRATION else SINGLE_VIEW


def recalibrates(name: str, strength: float | None) -> bool:
    """Whether a method recalibrates when it is given this strength; None: its own."""
    return bool(_RECALIBRATION.get(name, {}).get("strength") if strength is None else strength)


def recalibration_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a method's recalibration as :class:`~lexiseg.dense.recalibration.Recalibrated` takes them.

    Raises:
        ConfigError: A value that is not of its kind or out of range, or settings of a recalibration that is off.
    """
    settings = plain_arguments(Recalibrated, given, name, leave=("encoder",))
    require_pull(**{key: settings[key] for key in ("strength", "temperature") if key in settings})
    others = [key for key in settings if key != "strength"]
    if others and not recalibrates(name, settings.get("strength")):
        raise ConfigError(
            f"{name}: {others[0]} is of text-guided recalibration, which is off here; give a strength above 0 too"
        )
    return settings


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
        told: Its name and every setting as plain values, for result files; the views stand in the protocol.
    """

    name: str
    model: Segmentable
    views: MultiView
    told: Mapping[str, Any] = field(default_factory=dict)


def build_method(
    name: str,
    tower: ImageTower,
    *,
    views: MultiView | None = None,
    strength: float | None = None,
    temperature: float | None = None,
    unit_features: bool | None = None,
    after_upsampling: bool | None = None,
    **settings: Any,
) -> TrainingFreeMethod:
    """Build a method on a frozen tower; recalibration and views may be put around any encoder.

    Args:
        name: One of :data:`~lexiseg.dense.names.METHODS`.
        tower: The frozen image tower.
        views: Views to fuse; by default scales 0.75 and 1.25 with a mirror for TG-CLIP, one view for the others.
        strength: λ of the recalibration; by default 0.1 for TG-CLIP and 0 for the others.
        temperature: τ of the recalibration, 2 by default.
        unit_features: See :class:`~lexiseg.dense.recalibration.Recalibrated`; by default false for ``tg-clip-text`` only.
        after_upsampling: See there; by default true for ``tg-clip-text`` only.
        settings: The encoder's own constructor arguments.

    Raises:
        ConfigError: No such method or setting, a value that is not of its kind, a recalibration of an encoder whose logits are
            no cosines, or a setting of the recalibration where there is none.
    """
    require_method(name)
    asked: dict[str, Any] = {"strength": strength, "temperature": temperature}
    asked |= {"unit_features": unit_features, "after_upsampling": after_upsampling}
    given = recalibration_settings(name, {key: value for key, value in asked.items() if value is not None})
    on = recalibrates(name, given.get("strength"))
    encoder = build_dense(encoder_name(name), tower, **settings)
    around = Recalibrated(encoder, **{**_RECALIBRATION.get(name, {}), **given}) if on else None
    own = {**dense_settings(encoder_name(name), tower, **settings), **encoder.settled}
    told = {
        "name": name,
        "recalibration": None if around is None else around.told,
        "encoder": {key: _told(value) for key, value in own.items()},
    }
    return TrainingFreeMethod(name, around or encoder, views or published_views(name), told)


def _told(value: Any) -> Any:
    """A setting for a result file: of a model or a function what it is called."""
    if isinstance(value, tuple | list):
        return [_told(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value) if isinstance(value, Path) else getattr(value, "__name__", type(value).__name__)
