"""Things known by name and imported when they are used, so that a list of names costs no library."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from lexiseg.errors import ConfigError

T = TypeVar("T")


def locate(place: str) -> Any:
    """Import what ``package.module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def require_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a library that not everybody needs.

    Args:
        module: What to import.
        extra: What of ours brings it.
        purpose: What needs it, for the message.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{purpose} need {module}, which cannot be imported here ({error}); run `pip install 'lexiseg[{extra}]'`"
        ) from error


class LazyRegistry(Mapping[str, T], Generic[T]):
    """Names to classes or functions; looking one up imports its module, listing the names imports nothing.

    Args:
        places: Name to ``package.module:name``.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> T:
        return cast(T, locate(self._places[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places
