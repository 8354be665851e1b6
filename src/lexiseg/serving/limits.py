"""How much one client, and all of them together, may ask of a server."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from lexiseg.data.io import MOST_PIXELS
from lexiseg.errors import ConfigError, did_you_mean
from lexiseg.inference.refine import MOST_REFINEMENT


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; every one is refused with a sentence where it is passed.

    Attributes:
        bytes: Of a request's body.
        pixels: Of a photograph, and of all photographs of a batch together.
        words: Of a request, synonyms and the background's included.
        refinement: Of a request, its pixels by words by rounds of PAMR: what one client may hold the model for.
        upload_seconds: From a request's head to the end of its body.
        seconds: From the end of the body to the answer.
        requests: That are read or answered at once; further ones are told to come again.
        retry_seconds: After which they are told to.
        batch: Photographs read together; 1 joins none.
        gather_seconds: How long a photograph that came alone waits for others.
        cache_bytes: Of the encodings kept for ``/segment_encoded``; the ones unused for longest go first.

    Raises:
        ConfigError: A number below what makes sense.
    """

    bytes: int = 20 * 2**20
    pixels: int = MOST_PIXELS
    words: int = 1000
    refinement: int = MOST_REFINEMENT
    upload_seconds: float = 20.0
    seconds: float = 60.0
    requests: int = 64
    retry_seconds: int = 2
    batch: int = 8
    gather_seconds: float = 0.005
    cache_bytes: int = 2**30

    def __post_init__(self) -> None:
        """Reject what would refuse every request."""
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name in _MAY_BE_ZERO else 1e-3
            if not least <= value < float("inf"):
                raise ConfigError(
                    f"limit {field.name}={value}: expected a number {'from' if not least else 'above'} 0"
                )

    def changed(self, assignments: Sequence[str]) -> "Limits":
        """With some ``NAME=NUMBER`` instead.

        Raises:
            ConfigError: No such limit, or no number in its range.
        """
        kinds = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        changes = {}
        for text in assignments:
            name, equals, value = text.partition("=")
            if not equals or name not in kinds:
                meant = did_you_mean(name, kinds) or f"; there are {', '.join(kinds)}"
                raise ConfigError(f"limit {text}: expected NAME=NUMBER{meant}")
            try:
                changes[name] = kinds[name](value)
            except ValueError:
                kind = "a whole number" if kinds[name] is int else "a number"
                raise ConfigError(f"limit {text}: expected {kind}, got '{value}'") from None
        return replace(self, **changes)


_MAY_BE_ZERO = ("gather_seconds", "cache_bytes", "refinement")
