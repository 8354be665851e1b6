"""Flags given to a command of ``key=value``, and the other way round: told before anything is made of them."""

import re
from collections.abc import Sequence

from lexiseg.errors import ConfigError
from lexiseg.storage import leads_somewhere

_OVERRIDE = re.compile(r"(?P<key>[a-z_][a-z0-9_]*)=(?P<value>.*)", re.DOTALL)


def require_overrides(command: str, arguments: Sequence[str]) -> None:
    """Refuse flags where a command takes ``key=value``; ``--config`` is one that some of them have.

    Raises:
        ConfigError: Says how the first one is spelled here.
    """
    for place, argument in enumerate(arguments):
        if not argument.startswith("-") or argument == "--config":
            continue
        name, equals, value = argument.lstrip("-").partition("=")
        following = arguments[place + 1 :][:1]
        if not equals and following and not following[0].startswith("-") and "=" not in following[0]:
            value = following[0]
        key = name.replace("-", "_") or "key"
        raise ConfigError(
            f"{argument}: `lexiseg {command}` takes key=value and no flags; say {key}={value or '…'}, and see "
            f"`lexiseg {command} --help` for its keys"
        )


def require_flags(command: str, arguments: Sequence[str]) -> None:
    """Refuse ``key=value`` where a command takes flags; a file of such a name, or what follows a flag, is none.

    Raises:
        ConfigError: Says how the first one is spelled here.
    """
    for before, argument in zip(("", *arguments), arguments, strict=False):
        found = _OVERRIDE.fullmatch(argument)
        if found is None or before.startswith("-") or leads_somewhere(argument):
            continue
        from lexiseg.data.io import IMAGE_SUFFIXES  # more than a look at the arguments needs

        if found["value"].lower().endswith(IMAGE_SUFFIXES):
            continue
        key, value = found["key"].replace("_", "-"), found["value"]
        raise ConfigError(
            f"{argument}: `lexiseg {command}` takes flags and no key=value; say --{key} {value or '…'}, and see "
            f"`lexiseg {command} --help` for its flags"
        )
