"""All cases of the campaign, kind by kind."""

from collections.abc import Iterator

from campaign import class_lists, file_system, label_maps, pictures, settings, weights
from campaign.case import Case

KINDS = (pictures, label_maps, class_lists, settings, weights, file_system)


def cases(every: int = 1) -> Iterator[Case]:
    """Every so many-th case of each kind; 1: all."""
    for kind in KINDS:
        yield from [case for number, case in enumerate(kind.cases()) if number % every == 0]
