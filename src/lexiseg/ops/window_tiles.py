"""A picture cut into tiles, each with the windows of one grid that lie over it."""

from collections.abc import Iterator
from dataclasses import dataclass

from lexiseg.ops.sliding_window import WindowGrid


@dataclass(frozen=True)
class WindowTile:
    """A rectangle of pixels, and the piece of the picture that its labels depend on.

    Attributes:
        rows: Of the tile.
        columns: Likewise.
        read_rows: Of the piece: from the first window that lies over the tile to the end of the last.
        read_columns: Likewise.
        after: Windows of the grid above the piece, and to the left of it.
    """

    rows: slice
    columns: slice
    read_rows: slice
    read_columns: slice
    after: tuple[int, int]

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the tile, counted from the piece's first."""
        pairs = ((self.rows, self.read_rows), (self.columns, self.read_columns))
        rows, columns = (slice(tile.start - read.start, tile.stop - read.start) for tile, read in pairs)
        return rows, columns


def window_tiles(size: tuple[int, int], grid: WindowGrid, side: int) -> Iterator[WindowTile]:
    """Tiles of at most ``side`` pixels a side, row by row; together they are the picture.

    A piece that runs from one window of a grid to the end of another has these very windows in a grid of its own, the last
    one's shift back to the border included.

    Args:
        size: Height and width of the picture.
        grid: Of the picture.
        side: Of a tile.
    """
    across = list(_cuts(size[1], grid.lefts, grid.width, side))
    for rows, read_rows, above in _cuts(size[0], grid.tops, grid.height, side):
        for columns, read_columns, left in across:
            yield WindowTile(rows, columns, read_rows, read_columns, (above, left))


def _cuts(size: int, starts: tuple[int, ...], window: int, side: int) -> Iterator[tuple[slice, slice, int]]:
    """Along one axis: a tile, its piece, and how many windows come before."""
    for first in range(0, size, side):
        stop = min(first + side, size)
        over = [index for index, start in enumerate(starts) if start < stop and start + window > first]
        yield slice(first, stop), slice(starts[over[0]], starts[over[-1]] + window), over[0]
