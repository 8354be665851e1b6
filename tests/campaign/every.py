"""All cases of the campaign, kind by kind."""

from collections.abc import Iterator

from campaign import pictures, settings
from campaign.case import Case

KINDS = (pictures, settings)


def cases(every: int = 1) -> Iterator[Case]:
    """Every so many-th case of each kind; 1: all."""
    for kind in KINDS:
        yield from [case for number, case in enumerate(kind.cases()) if number % every == 0]
