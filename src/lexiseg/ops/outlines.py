"""Masks as polygons along the edges of their pixels: nothing is cut off, so that a polygon's area is its pixels.

Coordinates are ``(x, y)`` of pixel corners: row r and column c is the square from ``(c, r)`` to ``(c + 1, r + 1)``.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Ring = npt.NDArray[np.int64]
"""``(N, 2)`` corners ``(x, y)`` of a closed line, the first not repeated; its sides are horizontal and vertical in turn."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outline:
    """One connected piece of a mask.

    Attributes:
        outer: Its border; counterclockwise where y grows upwards, so that :func:`ring_area` is positive.
        holes: The borders of what is missing inside, the other way round.
    """

    outer: Ring
    holes: tuple[Ring, ...]

    @property
    def area(self) -> int:
        """Its pixels."""
        return round(ring_area(self.outer) + sum(ring_area(hole) for hole in self.holes))

    def one_ring(self) -> npt.NDArray[np.int64]:
        """The piece as one line, for formats without holes: to each hole leads a cut of no width, there and back.

        Returns:
            ``(N, 2)`` corners; :func:`ring_area` of them is :attr:`area`.
        """
        return _joined(self) if self.holes else self.outer


def ring_area(ring: npt.NDArray[np.integer] | npt.NDArray[np.floating]) -> float:
    """Signed area of ``(N, 2)`` corners by the shoelace formula; positive if counterclockwise where y grows upwards."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def outlines(mask: Mask, origin: tuple[int, int] = (0, 0)) -> list[Outline]:
    """The pieces of a ``(H, W)`` mask that are connected by shared edges, from top to bottom.

    A corner is where one or three of the four pixels around it are on, or two across from each other, which do not touch. The
    corners of a row, sorted, are joined by horizontal sides in pairs, those of a column by vertical ones.

    Args:
        mask: To be outlined; an empty one has no piece.
        origin: ``(x, y)`` of its first pixel in the photograph, added to all corners.
    """
    corners, along_row, along_column = _corners(mask)
    names, _ = ndimage.label(mask)
    outer: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = defaultdict(list)
    visited = np.zeros(len(corners), dtype=np.bool_)
    steps = (along_row.tolist(), along_column.tolist())
    for start in range(len(corners)):
        if visited[start]:
            continue
        way, place = [start], steps[0][start]
        while place != start:  # along a row and along a column in turn
            way.append(place)
            place = steps[(len(way) + 1) % 2][place]
        visited[way] = True
        ring = corners[way] + np.array(origin)
        # The first corner of a line is its topmost and leftmost one, and the line begins to the right: inside is below it.
        x, y = corners[start]
        if mask[y, x]:
            outer[int(names[y, x])] = ring
        else:
            holes[int(names[y - 1, x])].append(np.roll(ring[::-1], 1, axis=0))
    return [Outline(ring, tuple(holes[name])) for name, ring in outer.items()]


def _corners(mask: Mask) -> tuple[Ring, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Corners from top to bottom and left to right, and the partner of each along its row and along its column."""
    padded = np.pad(mask, 1)
    top_left, top_right = padded[:-1, :-1], padded[:-1, 1:]
    bottom_left, bottom_right = padded[1:, :-1], padded[1:, 1:]
    single = top_left ^ top_right ^ bottom_left ^ bottom_right
    falling = top_left & bottom_right & ~top_right & ~bottom_left
    rising = top_right & bottom_left & ~top_left & ~bottom_right
    parts = []
    # Where two pixels meet across, two corners lie in one place. The one whose side comes from the left is the first in its
    # row; the one whose side comes from above is the first in its column.
    for where, in_row, in_column in (
        (single, 0, 0), (falling, 0, 0), (falling, 1, 1), (rising, 0, 1), (rising, 1, 0),
    ):  # fmt: skip
        y, x = np.nonzero(where)
        parts.append(np.stack([y, x, np.full_like(y, in_row), np.full_like(y, in_column)], axis=1))
    found = np.concatenate(parts)
    found = found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))]
    y, x, _, in_column = found.T
    by_row = np.arange(len(found))
    by_column = np.lexsort((in_column, y, x))
    return found[:, 1::-1].astype(np.int64), _partners(by_row), _partners(by_column)


def _partners(order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each two that follow one another, of each other."""
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners


def _joined(piece: Outline) -> npt.NDArray[np.int64]:
    """Each hole's topmost corner joined straight upwards to the line that it meets, the highest holes first.

    What it meets is the outer border or a higher hole, which is joined already.
    """
    rings = [piece.outer, *sorted(piece.holes, key=lambda hole: int(hole[0, 1]))]
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    level = starts[:, 1] == ends[:, 1]
    left, right = np.minimum(starts, ends)[level, 0], np.maximum(starts, ends)[level, 0]
    height = starts[level, 1]
    line = _Line()
    line.add(piece.outer)
    for hole in rings[1:]:
        x, y = hole[0].tolist()
        above = (left <= x) & (x < right) & (height < y)
        line.join(hole, int(height[above].max()))
    return line.corners()


class _Line:
    """A closed line that takes in others; every point knows the one that follows."""

    def __init__(self) -> None:
        self._points: list[tuple[int, int]] = []
        self._next: list[int] = []
        self._sides: dict[int, list[int]] = defaultdict(list)

    def add(self, ring: npt.NDArray[np.integer]) -> tuple[int, int]:
        """Points that follow one another in a circle; the numbers of the first and the last."""
        first, last = len(self._points), len(self._points) + len(ring) - 1
        self._points += [(int(x), int(y)) for x, y in ring]
        self._next += [*range(first + 1, last + 1), first]
        for place in range(first, last + 1):
            self._keep_side(place)
        return first, last

    def join(self, ring: Ring, height: int) -> None:
        """Take in a ring, by a cut from its first corner up to the side at ``height`` above it."""
        x = int(ring[0, 0])
        side = next(place for place in self._sides[height] if self._covers(place, x))
        going_on = self._next[side]
        first, last = self.add(np.concatenate([ring, ring[:1]]))
        touch = np.array([[x, height]])
        down, up = self.add(touch)[0], self.add(touch)[0]
        self._next[side], self._next[down], self._next[last], self._next[up] = down, first, up, going_on
        self._keep_side(up)

    def corners(self) -> npt.NDArray[np.int64]:
        """``(N, 2)`` from the first one on, none twice in a row."""
        way, place = [0], self._next[0]
        while place:
            if self._points[place] != self._points[way[-1]]:
                way.append(place)
            place = self._next[place]
        return np.array([self._points[place] for place in way], dtype=np.int64)

    def _keep_side(self, place: int) -> None:
        if self._points[place][1] == self._points[self._next[place]][1]:
            self._sides[self._points[place][1]].append(place)

    def _covers(self, place: int, x: int) -> bool:
        """Whether the side that begins there lies above or below the pixel column ``x``."""
        (one, _), (other, _) = self._points[place], self._points[self._next[place]]
        return min(one, other) <= x < max(one, other)
