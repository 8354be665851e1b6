"""Settings as plain values: dataclasses whose fields know their type, their choices and their range.

Configurations, checkpoints and Python give the same dataclasses; what is wrong with a value is found here, before data
or weights are read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lexiseg.errors import ConfigError

Value = TypeVar("Value", int, float)

_RANGE = "range"
_SPOKEN = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


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
    """Check each field of a settings dataclass: type of its default, choices of its ``Literal``, range, no NaN or infinity.

    A whole number may stand for a float, and becomes one.

    Args:
        settings: A dataclass instance; fields of several types, or with other defaults, are left to their own checks.
        group: What the user calls it, for the message.

    Raises:
        ConfigError: Names the key, what was expected and what came.
    """
    hints = get_type_hints(type(settings))
    for item in fields(settings):
        value, expected = getattr(settings, item.name), type(item.default)
        if get_origin(hints[item.name]) is Literal:
            choices = get_args(hints[item.name])
            if type(value) not in map(type, choices) or value not in choices:
                raise ConfigError(
                    f"{group}.{item.name}: expected one of {', '.join(map(str, choices))}, got {value!r}"
                )
            continue
        if expected not in _SPOKEN or get_origin(hints[item.name]) in (Union, UnionType):
            continue
        if expected is float and type(value) is int:
            value = float(value)
            object.__setattr__(settings, item.name, value)
        if type(value) is not expected:
            raise ConfigError(f"{group}.{item.name}: expected {_SPOKEN[expected]}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{group}.{item.name}: expected a finite number, got {value}")
        allowed = item.metadata.get(_RANGE)
        if allowed is not None and value not in allowed:
            raise ConfigError(f"{group}.{item.name}: expected {allowed}, got {value}")


def require_known_keys(settings: Mapping[str, Any], kind: type, group: str) -> None:
    """Refuse plain values with a key that a settings dataclass does not have.

    Args:
        settings: As a configuration or a checkpoint holds them.
        kind: The dataclass.
        group: What the user calls it, for the message.

    Raises:
        ConfigError: Names the unknown keys and the known ones.
    """
    known = [item.name for item in fields(kind)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ConfigError(f"{group}: no setting {', '.join(unknown)}; there are {', '.join(known)}")
