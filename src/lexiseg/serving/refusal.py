"""What a client is told instead of an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818  (an answer, no failure)
    """One sentence with an HTTP status.

    Attributes:
        status: From 400 on.
        sentence: What was expected, what came, what to do.
        kind: A word for the count of errors.
        headers: Of the answer.
    """

    status: int
    sentence: str
    kind: str
    headers: Mapping[str, str] = field(default_factory=dict)


def come_again(sentence: str, seconds: int, kind: str = "overload") -> Refusal:
    """A refusal that has nothing to do with the request itself."""
    return Refusal(503, sentence, kind, {"Retry-After": str(seconds)})
