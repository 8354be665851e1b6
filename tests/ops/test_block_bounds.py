"""What a block of interpolated pixels lies between, told by few of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.ops.block_bounds import Blocks, Corners, block_spans, interpolation_bounds
from lexiseg.ops.interpolate import bilinear_matrix


def test_blocks_cover_an_image_evenly():
    blocks = Blocks.of((13, 29), 8)
    assert blocks == Blocks((0, 6, 13), (0, 7, 14, 21, 29))
    assert blocks.mirrored(0) == Blocks((0, 7, 13), blocks.columns)
    assert blocks.mirrored(1) == Blocks(blocks.rows, (0, 8, 15, 22, 29))
    assert Blocks.of((1, 2), 8) == Blocks((0, 1), (0, 2))


def test_lowest_of_each_block():
    maps = torch.arange(13.0 * 29).view(13, 29).flip(1)
    blocks = Blocks.of((13, 29), 8)
    expected = [[maps[r, c].item() for c in (6, 13, 20, 28)] for r in (0, 6)]
    assert blocks.lowest(maps).tolist() == expected


def test_corners_are_where_the_line_bends():
    """Five patches of 7 pixels: straight between their centres, flat beyond the outer ones."""
    corners = Corners.of(bilinear_matrix(5, 35), block_spans((0, 35)))
    assert corners.table.T.tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    expected = bilinear_matrix(5, 35)[[0, 3, 10, 17, 24, 31, 34]]
    assert torch.equal(corners.matrix, expected)
    assert corners.bending < 1e-6


def test_blocks_side_by_side_share_their_corners():
    corners = Corners.of(bilinear_matrix(5, 35), block_spans((0, 11, 20, 35)))
    kept = [0, 3, 10, 11, 17, 20, 24, 31, 34]
    assert torch.equal(corners.matrix, bilinear_matrix(5, 35)[kept])
    assert [[kept[c] for c in span] for span in corners.table.T] == [
        [0, 3, 10, 11],
        [11, 17, 20, 20],
        [20, 24, 31, 34],
    ]


def test_what_is_left_out_is_measured():
    """A bend of 1.5 % of the weight is no corner, and half of it is told."""
    matrix = torch.tensor([[1.0, 0.0], [0.5 + 0.0075, 0.5 - 0.0075], [0.0, 1.0]])
    corners = Corners.of(matrix, ((0, 2),))
    assert len(corners.matrix) == 2
    assert corners.bending == pytest.approx(0.0075, rel=1e-4)
    maps = torch.tensor([[[3.0]], [[-1.0]]])
    one = Corners.of(torch.ones(1, 1), ((0, 0),))
    lower, upper = interpolation_bounds(maps, corners, one)
    assert lower.item() == pytest.approx(-1 - 4 * 0.0075, abs=1e-3)
    assert upper.item() == pytest.approx(3 + 4 * 0.0075, abs=1e-3)


def test_bounds_by_hand():
    """One row of patches 0, 4, 2 upsampled eightfold: the corners of every block are its own pixels."""
    maps = torch.tensor([[[0.0, 4.0, 2.0]]])
    horizontal = Corners.of(bilinear_matrix(3, 24), block_spans((0, 6, 15, 24)))
    lower, upper = interpolation_bounds(maps, Corners.of(torch.ones(1, 1), ((0, 0),)), horizontal)
    line = torch.tensor(
        [0, 0, 0, 0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 3.875, 3.625, 3.375, 3.125]
    )
    assert lower[0, :, 0].tolist() == pytest.approx([0, line[6].item(), 2], abs=1e-3)
    assert upper[0, :, 0].tolist() == pytest.approx([line[6].item(), 3.875, 3.125], abs=0.2)


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 7)),
    st.tuples(st.integers(1, 41), st.integers(1, 37)),
    st.integers(1, 17),
    st.integers(0, 2**32 - 1),
)
def test_nothing_lies_outside(cells, size, side, seed):
    maps = torch.randn(cells[0], 3, cells[1], generator=torch.Generator().manual_seed(seed)) * 9 - 4
    vertical, horizontal = (bilinear_matrix(*pair) for pair in zip(cells, size, strict=True))
    blocks = Blocks.of(size, side)
    pixels = torch.einsum("yn,nmk,xk->myx", vertical, maps, horizontal)
    lower, upper = interpolation_bounds(
        maps,
        Corners.of(vertical, block_spans(blocks.rows)),
        Corners.of(horizontal, block_spans(blocks.columns)),
    )
    for word in range(3):
        assert (lower[..., word] <= blocks.lowest(pixels[word])).all()
        assert (upper[..., word] >= -blocks.lowest(-pixels[word])).all()
        reach = maps[:, word].amax() - maps[:, word].amin()
        assert (upper[..., word] <= maps[:, word].amax() + 0.05 * reach + 0.01).all()
