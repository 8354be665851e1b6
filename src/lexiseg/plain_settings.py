"""Settings as plain values: dataclasses whose fields know their type, their choices and their range.

Configurations, checkpoints and Python give the same dataclasses; what is wrong with a value is found here, before data
or weights are read.
"""

import functools
import inspect
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lexiseg.errors import ConfigError, did_you_mean

Value = TypeVar("Value", int, float, int | None, tuple[int, ...], tuple[float, float], tuple[float, ...])

_RANGE = "range"
_LARGEST = 3.4028234663852886e38
"""Of float32, in which everything is computed."""

_SPOKEN = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a word", "words"),
    Path: ("a path", "paths"),
    NoneType: ("null", "null"),
}
"""What a value of a type is called, and several of them."""


@dataclass(frozen=True)
class Range:
    """Which numbers a setting may have; None leaves a side open."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        low = f"at least {self.at_least}" if self.at_least is not None else f"above {self.above}"
        high = f"at most {self.at_most}" if self.at_most is not None else f"below {self.below}"
        has_low = self.at_least is not None or self.above is not None
        has_high = self.at_most is not None or self.below is not None
        if not (has_low and has_high):
            return low if has_low else high
        if self.at_least is None:
            return f"{low} and {high}"
        return f"from {self.at_least} to {self.at_most if self.at_most is not None else high}"


def within(
    default: Value,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Value:
    """A dataclass field with this default and range."""
    value: Value = field(default=default, metadata={_RANGE: Range(at_least, above, at_most, below)})
    return value


def require_plain_settings(settings: Any, group: str) -> None:
    """Check each field of a settings dataclass by its annotation: type, choices of a ``Literal``, range, no NaN or infinity.

    A whole number may stand for a float, and a list for a tuple; they become what they stand for. Every part of a union
    and every entry of a list is looked at.

    Args:
        settings: A dataclass instance; fields of other classes than plain values are left to their own checks.
        group: What the user calls it, for the message.

    Raises:
        ConfigError: Names the key, what was expected and what came.
    """
    hints = get_type_hints(type(settings))
    for item in fields(settings):
        given = getattr(settings, item.name)
        value = _required(given, hints[item.name], f"{group}.{item.name}", item.metadata.get(_RANGE))
        if value is not given:
            object.__setattr__(settings, item.name, value)


def plain_arguments(
    function: Callable[..., Any], given: Mapping[str, Any], group: str, *, leave: Collection[str] = ()
) -> dict[str, Any]:
    """Settings by name as a constructor annotates them, checked as those of a dataclass are.

    A plain value is held against the plain part of an annotation alone: of a model or a name, text is the name.

    Args:
        function: A class or a function.
        given: Some of its keyword arguments.
        group: What the user calls it, for the message.
        leave: Arguments that are no settings.

    Raises:
        ConfigError: Names the setting that there is none of, or whose value is not of its kind.
    """
    hints = {
        key: item.annotation for key, item in inspect.signature(function, eval_str=True).parameters.items()
    }
    known = [key for key in hints if key not in leave]
    for key in given:
        if key not in known:
            there = f"; its settings are {', '.join(known)}" if known else "; it has none"
            raise ConfigError(f"{group} has no setting {key!r}{did_you_mean(key, known) or there}")
    return {
        key: _required(value, _plain_part(hints[key]) if _is_plain(value) else hints[key], f"{group}.{key}")
        for key, value in given.items()
    }


def _required(given: Any, hint: Any, name: str, allowed: Range | None = None) -> Any:
    """The value as the annotation has it.

    Raises:
        ConfigError: It is of another kind, out of range, or no number to compute with.
    """
    try:
        value = _fitted(given, hint)
    except _UnfitError:
        raise ConfigError(f"{name}: expected {_spoken(hint)}, got {given!r}") from None
    for number in _numbers(value):
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{name}: expected a finite number, got {number}")
        if abs(number) > _LARGEST:
            raise ConfigError(f"{name}: expected a number that 32 bits hold, got {number}")
        if allowed is not None and number not in allowed:
            raise ConfigError(f"{name}: expected {allowed}, got {number}")
    return value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list | tuple | Mapping)


def _plain_part(hint: Any) -> Any:
    """Of a union what plain values can be; all of it where nothing is."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    plain = [
        part
        for part in get_args(hint)
        if part in _SPOKEN or get_origin(part) in (Literal, tuple, list, Sequence)
    ]
    return functools.reduce(operator.or_, plain) if plain else hint


class _UnfitError(Exception):
    """A value that is not of a type."""


def _fitted(value: Any, hint: Any) -> Any:
    """The value as the annotation has it.

    Raises:
        _UnfitError: It is something else.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _fitted_to_one(value, parts)
    if origin is Literal:
        same = [choice for choice in parts if type(choice) is type(value) and choice == value]
        return _require(same, value)
    if origin in (tuple, list, Sequence):
        return _fitted_list(value, tuple if origin is tuple else None, parts)
    if hint is float and type(value) is int and abs(value) <= _LARGEST:
        return float(value)
    if hint is float and type(value) is int:
        return value  # too large for any number here, which whoever looks at its range says
    if hint in _SPOKEN:
        return _require(isinstance(value, Path) if hint is Path else type(value) is hint, value)
    return value


def _fitted_to_one(value: Any, hints: Sequence[Any]) -> Any:
    """Of the first that it fits; a type of its own comes before one that it could stand for."""
    for hint in sorted(hints, key=lambda hint: hint is not type(value)):
        try:
            return _fitted(value, hint)
        except _UnfitError:
            continue
    raise _UnfitError


def _fitted_list(value: Any, kind: type | None, parts: Sequence[Any]) -> Any:
    _require(_is_list(value), value)
    if kind is None:  # a sequence of any length stays what it is
        changed = [_fitted(item, parts[0]) for item in value]
        return value if list(value) == changed else changed
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_fitted(item, parts[0]) for item in value)
    _require(len(value) == len(parts), value)
    return tuple(_fitted(item, part) for item, part in zip(value, parts, strict=True))


def _is_list(value: Any) -> bool:
    """Lists and tuples, and what Hydra holds in their place."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _require(fits: object, value: Any) -> Any:
    if not fits:
        raise _UnfitError
    return value


def _numbers(value: Any) -> Iterator[float]:
    if _is_list(value):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _spoken(hint: Any, *, many: bool = False) -> str:
    """What the annotation asks for, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_spoken(part, many=many) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (tuple, list, Sequence):
        fixed = origin is tuple and parts[-1] is not Ellipsis
        inner = _spoken(parts[0], many=True)
        one = f"a list of {len(parts)} {inner}" if fixed else f"a list of {inner}"
        return one.replace("a list", "lists", 1) if many else one
    return _SPOKEN[hint][many] if hint in _SPOKEN else getattr(hint, "__name__", str(hint))


def require_known_keys(settings: Mapping[str, Any], kind: type, group: str) -> None:
    """Refuse plain values with a key that a settings dataclass does not have.

    Args:
        settings: As a configuration or a checkpoint holds them.
        kind: The dataclass.
        group: What the user calls it, for the message.

    Raises:
        ConfigError: No settings at all; or names the unknown keys and the known ones.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{group}: expected settings by name, got {settings!r}")
    known = [item.name for item in fields(kind)]
    unknown = sorted(str(key) for key in set(settings) - set(known))
    if unknown:
        raise ConfigError(f"{group}: no setting {', '.join(unknown)}; there are {', '.join(known)}")


def plain_fields(settings: Any) -> dict[str, Any]:
    """Every field of a settings dataclass as a plain value: tuples become lists."""
    return {key: _plain(value) for key, value in asdict(settings).items()}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def require_seed(seed: object) -> None:
    """Refuse what no generator takes.

    Raises:
        ConfigError: Not a whole number from 0.
    """
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ConfigError(f"seed: expected a whole number of at least 0 and below 2**32, got {seed!r}")
