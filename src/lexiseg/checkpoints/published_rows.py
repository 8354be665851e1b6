"""A published checkpoint's layout as a table: every tensor's name there, its shape, and what it is here."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lexiseg.errors import CheckpointError

Shape = tuple[int, ...]

ANY = -1
"""A length that the model does not decide."""


def free_lengths_taken(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> dict[str, Shape]:
    """Expected shapes in which a free length is the file's own."""
    taken = dict(expected)
    for name, shape in expected.items():
        if len(shape) == len(found.get(name, ())):
            pairs = zip(shape, found[name], strict=True)
            taken[name] = tuple(there if here == ANY else here for here, there in pairs)
    return taken


def count(published: Mapping[str, Any], prefix: str) -> int:
    """How many different numbers follow ``prefix`` in the names: a file may claim any number, but not more than it has names.

    Raises:
        KeyError: None does.
    """
    found = {name.removeprefix(prefix).split(".")[0] for name in published if name.startswith(prefix)}
    if not found:
        raise KeyError(prefix)
    return len(found)


@dataclass(frozen=True)
class Row:
    """One tensor of the published file.

    Attributes:
        name: There.
        shape: There; :data:`ANY` where the model does not decide.
        ours: What stands for it here: nothing, one tensor, or several that are stacked there. Where rows share a tensor
            of ours, they are its consecutive pieces along the first axis.
        stacked: Whether it stacks ours, each transposed.
        joined: Whether it is ours one after the other along the first axis, in equal pieces: queries, keys and values.
        dead: Whether the release allocates it and never reads it; ours only with ``unused_parameters``.
    """

    name: str
    shape: Shape
    ours: tuple[str, ...] = ()
    stacked: bool = False
    joined: bool = False
    dead: bool = False

    def split(self, published: Tensor) -> list[Tensor]:
        """The published tensor as what stands for it here, in the order of ``ours``."""
        if self.stacked:
            return [part.T for part in published]
        return list(published.chunk(len(self.ours))) if self.joined else [published]

    def within(self, published: str, ours: str) -> "Row":
        """The same under longer names."""
        return replace(self, name=published + self.name, ours=tuple(ours + name for name in self.ours))


@dataclass(frozen=True)
class PublishedLayout:
    """Every tensor that the release of one model saves for certain.

    Attributes:
        rows: The table.
        holds: What it has a place for, for messages.
    """

    rows: tuple[Row, ...]
    holds: str = "models as released"

    @property
    def shapes(self) -> dict[str, Shape]:
        """Published name to shape."""
        return {row.name: row.shape for row in self.rows}

    @property
    def live(self) -> set[str]:
        """Published names of what stands here too."""
        return {row.name for row in self.rows if row.ours}

    def from_published(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our state dict.

        Args:
            published: Holds every row that stands here too.

        Returns:
            Tensors under our names, in the file's types.
        """
        pieces: dict[str, list[Tensor]] = {}
        for row in self.rows:
            if not row.ours:
                continue
            for name, part in zip(row.ours, row.split(published[row.name]), strict=True):
                pieces.setdefault(name, []).append(part)
        return {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in pieces.items()}

    def to_published(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of :meth:`from_published`; rows that nothing of ours stands for are left out.

        Raises:
            CheckpointError: Something of ours has no place in that layout.
        """
        places = Counter(name for row in self.rows for name in row.ours)
        homeless = sorted(ours.keys() - places)
        if homeless:
            raise CheckpointError(
                f"the published layout has no place for {', '.join(homeless[:6])}{', …' if len(homeless) > 6 else ''}; it "
                f"holds {self.holds}"
            )
        published: dict[str, Tensor] = {}
        given: dict[str, int] = {}
        for row in self.rows:
            if not row.ours or not ours.keys() >= set(row.ours):
                continue
            if row.stacked:
                published[row.name] = torch.stack([ours[name].T for name in row.ours])
            elif row.joined:
                published[row.name] = torch.cat([ours[name] for name in row.ours])
            elif places[row.ours[0]] > 1:
                start = given.get(row.ours[0], 0)
                published[row.name] = ours[row.ours[0]][start : start + row.shape[0]]
                given[row.ours[0]] = start + row.shape[0]
            else:
                published[row.name] = ours[row.ours[0]]
        return published
