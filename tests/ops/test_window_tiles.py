import numpy as np
import pytest

from lexiseg.ops.sliding_window import window_grid
from lexiseg.ops.window_tiles import window_tiles


@pytest.mark.parametrize(
    ("size", "window", "stride", "side"),
    [((61, 97), 13, 7, 23), ((61, 97), 13, 13, 11), ((5, 97), 13, 5, 31), ((13, 14), 13, 13, 1)],
)
def test_tiles_cover_once_and_each_piece_has_the_grids_own_windows(size, window, stride, side):
    grid = window_grid(size, window, stride)
    covered = np.zeros(size, dtype=int)
    for tile in window_tiles(size, grid, side):
        covered[tile.rows, tile.columns] += 1
        piece = (
            tile.read_rows.stop - tile.read_rows.start,
            tile.read_columns.stop - tile.read_columns.start,
        )
        own = window_grid(piece, window, stride)
        for axis, (starts, mine, read, pixels) in enumerate(
            [
                (grid.tops, own.tops, tile.read_rows, tile.rows),
                (grid.lefts, own.lefts, tile.read_columns, tile.columns),
            ]
        ):
            first = tile.after[axis]
            assert [start + read.start for start in mine] == list(starts[first : first + len(mine)])
            length = (grid.height, grid.width)[axis]
            over = [start for start in starts if start < pixels.stop and start + length > pixels.start]
            assert [start + read.start for start in mine] == over
        assert np.arange(size[0])[tile.read_rows][tile.inside[0]].tolist() == list(range(size[0])[tile.rows])
        assert np.arange(size[1])[tile.read_columns][tile.inside[1]].tolist() == list(
            range(size[1])[tile.columns]
        )
    assert (covered == 1).all()
