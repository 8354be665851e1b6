"""What a run says of itself in plain values, where no configuration file says it."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

_UNSAID = ("record", "tell", "wandb")
"""Of every run: what says nothing of its result."""


def record_of(run: Any, *unsaid: str) -> dict[str, Any]:
    """The settings of a run, a dataclass, as its folder keeps them.

    Args:
        run: Made in Python, so that no configuration says them.
        unsaid: Fields besides ``record``, ``tell`` and ``wandb`` that are no settings.
    """
    own = [item.name for item in fields(run) if item.name not in (*_UNSAID, *unsaid)]
    return {name: plain_record(getattr(run, name)) for name in own}


def plain_record(value: Any) -> Any:
    """Settings as dictionaries, lists and plain values; other objects by their class and what they were made of.

    Args:
        value: A settings dataclass, or what stands in one.
    """
    if isinstance(value, np.generic):
        value = value.item()  # NumPy's float is one of Python's as well, but no YAML knows it
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain_record(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_record(item) for item in value]
    if is_dataclass(value):
        return {item.name: plain_record(getattr(value, item.name)) for item in fields(value)}
    return {"_target_": _name_of(value), **_parts_of(value)}


def _name_of(value: Any) -> str:
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _parts_of(value: Any) -> dict[str, Any]:
    """Public attributes that are plain; what an object has worked out for itself is not what it was made of."""
    parts = {key: item for key, item in getattr(value, "__dict__", {}).items() if not key.startswith("_")}
    return {key: plain_record(item) for key, item in parts.items() if _is_plain(item)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str | Path | np.generic)


def merged(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A record with some of its values changed, however deep they stand."""
    result = dict(record)
    for key, change in changes.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(change, Mapping)
        result[key] = merged(before, change) if both else change  # type: ignore[arg-type]
    return result
