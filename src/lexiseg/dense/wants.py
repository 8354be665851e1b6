"""What a method wants beside CLIP and a photograph, asked by its name before anything is loaded."""

import inspect
from collections.abc import Mapping, Sequence

from lexiseg.dense.names import DENSE_ENCODERS, METHODS
from lexiseg.errors import ConfigError


def wants_masks(name: str) -> bool:
    """Whether a method reads inside masks and refuses a photograph without any."""
    return name in DENSE_ENCODERS and DENSE_ENCODERS[name].needs.masks


def wants_second_model(name: str) -> bool:
    """Whether a method takes another vision model, by the setting ``proxy``."""
    return name in DENSE_ENCODERS and "proxy" in inspect.signature(DENSE_ENCODERS[name]).parameters


def wants_sam(name: str) -> bool:
    """Whether a method takes a SAM, by the setting ``sam``."""
    return name in DENSE_ENCODERS and "sam" in inspect.signature(DENSE_ENCODERS[name]).parameters


def wants_bank(name: str) -> bool:
    """Whether a method may look regions up in a bank, by the setting ``bank``."""
    return name in DENSE_ENCODERS and "bank" in inspect.signature(DENSE_ENCODERS[name]).parameters


def require_taken(given: Mapping[str, str | None], names: Sequence[str], flag: str) -> None:
    """Refuse a second model, a SAM, masks or a bank that no method would use.

    Args:
        given: ``proxy``, ``sam``, ``masks`` or ``bank``, and what they are if they are named.
        names: Of the methods.
        flag: That names methods, for the message.

    Raises:
        ConfigError: Says which methods would.
    """
    takers = {"proxy": wants_second_model, "sam": wants_sam, "masks": wants_masks, "bank": wants_bank}
    for key, value in given.items():
        if value is not None and not any(map(takers[key], names)):
            *others, last = filter(takers[key], METHODS)
            users = f"{', '.join(others)} or {last}" if others else last
            named = f"{flag} names {', '.join(names)}" if names else "no method is named"
            one = "one of these" if others else last
            raise ConfigError(f"--{key} is for {users}, and {named}; name {one} by {flag}, or drop --{key}")


def left_wanting(name: str, *, proxy: bool, masks: bool, sam: bool = False) -> str:
    """What a method wants and is not given, as a sentence of the command line; empty where there is nothing.

    Args:
        name: Of any training-free method.
        proxy: Whether a second vision model is named.
        masks: Whether masks are.
        sam: Whether a SAM is.
    """
    lacking = []
    if not proxy and wants_second_model(name):
        lacking.append(("a second vision model", "--proxy"))
    if not sam and wants_sam(name):
        lacking.append(("a SAM", "--sam"))
    if not masks and wants_masks(name):
        lacking.append(("masks", "--masks"))
    if not lacking:
        return ""
    things, flags = (" and ".join(words) for words in zip(*lacking, strict=True))
    return f"it needs {things}; name {'one' if flags in ('--proxy', '--sam') else 'them'} by {flags}"
