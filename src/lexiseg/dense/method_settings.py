"""Settings of training-free methods by name, as flags and Python give them: checked before any weights are read."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lexiseg.dense.methods import published_views, recalibrates, recalibration_settings, require_method
from lexiseg.dense.multi_view import MultiView
from lexiseg.dense.names import DENSE_ENCODERS, METHODS, encoder_name
from lexiseg.dense.recalibration import Recalibrated
from lexiseg.dense.region_bank import RegionBank
from lexiseg.errors import ConfigError, did_you_mean
from lexiseg.plain_settings import plain_arguments

VIEW_SETTINGS = tuple(item.name for item in fields(MultiView))
"""``scales``, ``flip``, ``fusion`` and what else says which views are read."""

_PULLING = tuple(key for key in inspect.signature(Recalibrated).parameters if key != "encoder")
"""``strength``, ``temperature`` and what else says how patches are recalibrated."""


def require_mapping(settings: object) -> None:
    """Refuse settings that are not said by name.

    Raises:
        ConfigError: Says how.
    """
    if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
        raise ConfigError(
            f"settings: expected values by name such as {{'strength': 0.2}}, got {settings!r:.80}; name each setting"
        )


def method_arguments(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`~lexiseg.dense.methods.build_method` takes of settings by name.

    Args:
        name: Of a method.
        given: Settings of the recalibration, the views (:data:`VIEW_SETTINGS`) and the encoder, side by side.

    Raises:
        ConfigError: No such method or setting, a value that is not of its kind or out of range, or a setting without effect.
        DataError: A damaged bank.
    """
    require_method(name)
    encoder = DENSE_ENCODERS[encoder_name(name)]
    own = list(inspect.signature(encoder).parameters)[1:]
    for key in given:
        if key not in (*own, *_PULLING, *VIEW_SETTINGS):
            known = (*own, *_PULLING, *VIEW_SETTINGS)
            raise ConfigError(
                f"{name} has no setting {key!r}{did_you_mean(key, known) or '; there are ' + ', '.join(known)}"
            )
    of_views = {key: value for key, value in given.items() if key in VIEW_SETTINGS}
    pulling = {key: value for key, value in given.items() if key in _PULLING}
    arguments = recalibration_settings(name, pulling)
    settings = {key: value for key, value in given.items() if key in own}
    arguments |= plain_arguments(encoder, settings, name, leave=("tower",))
    for key in settings:
        without = _idle(name, key, settings)
        if without:
            raise ConfigError(f"{name}: {key} changes nothing {without}; leave it out, or change that")
    if isinstance(settings.get("bank"), str | Path):
        RegionBank.open(settings["bank"])  # its place is looked at before anything is loaded
    if of_views:
        arguments["views"] = changed_views(published_views(name), of_views, name)
    return arguments


def changed_views(views: MultiView, given: Mapping[str, Any], name: str) -> MultiView:
    """Views with some settings changed.

    Raises:
        ConfigError: A value out of range, or one that says nothing of the chosen mirror images.
    """
    changed = replace(views, **given)
    if changed.flip == "none" and "fusion" in given:
        raise ConfigError(f"{name}: fusion says how mirror images join, and there are none; give a flip too")
    if changed.flip != "uncertain" and "uncertain_above" in given:
        raise ConfigError(
            f"{name}: uncertain_above is for flip=uncertain, and flip is {changed.flip}; set that too"
        )
    return changed


def has_use(name: str, key: str, given: Mapping[str, Any]) -> bool:
    """Whether a method would read otherwise for a setting, among the others that are given."""
    if key in VIEW_SETTINGS:
        flip = given.get("flip", published_views(name).flip)
        return flip == "uncertain" if key == "uncertain_above" else key != "fusion" or flip != "none"
    if key in _PULLING:
        return key == "strength" or recalibrates(name, given.get("strength"))
    encoder = DENSE_ENCODERS[encoder_name(name)]
    return key in inspect.signature(encoder).parameters and not _idle(name, key, given)


def _idle(name: str, key: str, given: Mapping[str, Any]) -> str:
    """Beside or without what a setting of a method's own changes nothing; empty where it does change something."""
    encoder = DENSE_ENCODERS[encoder_name(name)]
    if key not in encoder.idle:
        return ""
    defaults = {item.name: item.default for item in inspect.signature(encoder).parameters.values()}
    changes_nothing, without = encoder.idle[key]
    return without if changes_nothing({**defaults, **given}) else ""


def shared_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of settings for several methods those that one has use for.

    Args:
        name: Of the method.
        given: Settings by name, for every method that has use for them; under a method's name those of it alone.
    """
    alone = given.get(name, {})
    common = {key: value for key, value in given.items() if key not in METHODS}
    together = {**common, **alone}
    return {key: value for key, value in together.items() if key in alone or has_use(name, key, together)}


def require_use(names: Iterable[str], given: Mapping[str, Any]) -> None:
    """Refuse settings for several methods of which one is of no use, or cannot be.

    Raises:
        ConfigError: Names it.
    """
    names = tuple(names)
    for key, value in given.items():
        if key in METHODS:
            if key not in names:
                raise ConfigError(
                    f"{key}.{next(iter(value))}: {key} is not among the methods; name it, or drop the setting"
                )
        elif not any(has_use(name, key, {**given, **given.get(name, {})}) for name in names):
            known = {*VIEW_SETTINGS, *_PULLING}
            for name in names:
                known |= inspect.signature(DENSE_ENCODERS[encoder_name(name)]).parameters.keys() - {"tower"}
            near = "" if key in known else did_you_mean(key, sorted(known))
            raise ConfigError(f"none of {', '.join(names)} has use for the setting {key!r}{near}")
    for name in names:
        method_arguments(name, shared_settings(name, given))
