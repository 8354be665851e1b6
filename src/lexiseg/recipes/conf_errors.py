"""What Hydra says of a configuration, as sentences that help at a command line."""

import re
from collections.abc import Mapping
from typing import Any

from lexiseg.errors import near_name

_UNTOLD = ("full_key", "object_type", "reference_type", "Config search path", "provider=")
"""Lines of Hydra's messages that help nobody at a command line."""


def told_of_hydra(text: str) -> str:
    """Hydra's own words on one line, without what helps nobody and without a full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(_UNTOLD)).rstrip(".")


def lacking_key(told: str) -> str:
    """The key that a configuration lacks, by what Hydra says of an override; empty where it says something else."""
    found = re.search(r"Could not override '([^']+)'", told)
    return found[1] if found else ""


def tell_near_key(key: str, config: Mapping[str, Any]) -> str:
    """What there is in place of a key that a configuration lacks, in a sentence without its end.

    Args:
        key: With dots.
        config: What was composed without it.
    """
    *outer, last = key.split(".")
    there: Any = config
    for depth, name in enumerate(outer):
        if not isinstance(there, Mapping) or name not in there:
            return tell_near_key(".".join(outer[: depth + 1]), config)
        there = there[name]
    if not isinstance(there, Mapping) or not there:
        return f"{key}: no such key, {'.'.join(outer)} is a value"
    near = near_name(last, map(str, there))
    if near:
        return f"{key}: no such key; did you mean {'.'.join([*outer, near])}?"
    return f"{key}: no such key; {'.'.join(outer) or 'this command'} has {', '.join(map(str, there))}"
