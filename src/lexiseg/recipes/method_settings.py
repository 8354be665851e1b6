"""Settings of methods as a command line says them: ``KEY=VALUE``, or ``METHOD.KEY=VALUE`` for one method alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lexiseg.dense.names import METHODS
from lexiseg.dense.wants import require_taken
from lexiseg.errors import ConfigError, did_you_mean


def assigned(
    assignments: Sequence[str], given: Mapping[str, Any], read: Callable[[str], Any]
) -> dict[str, Any]:
    """Settings by name, those of one method under its name; a value is what a configuration would read.

    Args:
        assignments: As typed.
        given: What other flags say.
        read: A value as typed to what it means; a ValueError says that it means nothing.

    Raises:
        ConfigError: No value, no such method, a value that no configuration holds, or one setting said twice.
    """
    settings = dict(given)
    for text in assignments:
        name, equals, value = text.partition("=")
        method, _, key = name.rpartition(".")
        if not equals or not key:
            raise ConfigError(
                f"--set {text}: expected KEY=VALUE or METHOD.KEY=VALUE, such as sam_refine=true"
            )
        if method and method not in METHODS:
            raise ConfigError(
                f"--set {text}: no method '{method}'{did_you_mean(method, METHODS) or '; KEY=VALUE is for all'}"
            )
        place = settings.setdefault(method, {}) if method else settings
        if key in place:
            raise ConfigError(f"--set {text}: {name} is said twice; leave one out")
        try:
            place[key] = read(value)
        except ValueError as error:
            raise ConfigError(f"--set {text}: the value cannot be read; {error}") from error
    return settings


def own_settings(settings: Mapping[str, Any], method: str | None) -> dict[str, Any]:
    """Of the settings of a command line those of the one method that it reads by.

    Args:
        settings: As :func:`assigned` gives them.
        method: Its name; None: the one that suits the CLIP, or a trained model.

    Raises:
        ConfigError: A setting of another method, or a second model that the method does not take.
    """
    others = [key for key in settings if key in METHODS and key != method]
    if others:
        raise ConfigError(
            f"--set {others[0]}.KEY=VALUE: the method is {method or 'not named'}; say --method {others[0]}, or leave it out"
        )
    require_taken(
        {key: settings.get(key) for key in ("proxy", "sam", "bank")},
        () if method is None else (method,),
        "--method",
    )
    return {
        **{key: value for key, value in settings.items() if key not in METHODS},
        **settings.get(method or "", {}),
    }
