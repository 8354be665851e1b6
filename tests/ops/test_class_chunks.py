"""Streaming over tiles equals the plain computation of everything at once."""

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops import class_chunks
from lexiseg.ops.class_chunks import LinearMerge, Running, SigmoidMerge, running_argmax
from lexiseg.ops.sliding_window import window_grid
from lexiseg.ops.window_merge import cell_matrix, merge_features, padding_before, plan_axis
from support import merged_maps

CASES = {
    # working size, window, stride, source size, patch
    "one window, same size": ((16, 24), None, None, (16, 24), 8),
    "one padded window": ((13, 21), None, None, (13, 21), 8),
    "windows, same size": ((29, 37), 16, 11, (29, 37), 8),
    "windows, larger source": ((29, 37), 16, 11, (47, 61), 8),
    "windows, smaller source": ((53, 71), 24, 17, (19, 23), 8),
    "padded windows": ((29, 37), 13, 7, (31, 43), 4),
    "window beyond one side": ((7, 41), 16, 5, (11, 59), 4),
}


def build(case, words=11, padding="bottom_right"):
    size, window, stride, source, patch = CASES[case]
    grid = window_grid(size, window, stride)
    padded = tuple(-(-side // patch) * patch for side in (grid.height, grid.width))
    cells = tuple(side // patch for side in padded)
    logits = torch.randn(len(grid), words, *cells, generator=torch.Generator().manual_seed(3)) * 3
    axes = [
        plan_axis(
            starts=(grid.tops, grid.lefts)[axis],
            window=(grid.height, grid.width)[axis],
            padded=padded[axis],
            patches=cells[axis],
            working=size[axis],
            source=source[axis],
            padding=padding,
        )
        for axis in (0, 1)
    ]
    return grid, padded, logits, axes, size, source


def plain(grid, padded, logits, size, source, activation, padding="bottom_right"):
    """Upsample, crop, activate, add, divide, resize: all words and pixels at once."""
    total, count = torch.zeros(logits.shape[1], *size), torch.zeros(size)
    top, left = (
        padding_before(w, p, padding) for w, p in zip((grid.height, grid.width), padded, strict=True)
    )
    for (y0, x0, y1, x1), window in zip(grid.boxes, logits, strict=True):
        maps = F.interpolate(window[None], size=padded, mode="bilinear", align_corners=False)[0]
        maps = maps[:, top : top + y1 - y0, left : left + x1 - x0]
        total[:, y0:y1, x0:x1] += maps.sigmoid() if activation == "sigmoid" else maps
        count[y0:y1, x0:x1] += 1
    return F.interpolate((total / count)[None], size=source, mode="bilinear", align_corners=False)[0]


MERGES = {"sigmoid": SigmoidMerge, "linear": LinearMerge}


@pytest.mark.parametrize("padding", ["bottom_right", "centre"])
@pytest.mark.parametrize("activation", MERGES)
@pytest.mark.parametrize("case", CASES)
def test_maps_equal_the_plain_form(case, activation, padding):
    grid, padded, logits, axes, size, source = build(case, padding=padding)
    expected = plain(grid, padded, logits, size, source, activation, padding)
    ours = merged_maps(MERGES[activation](logits, *axes), source, logits.shape[1])
    torch.testing.assert_close(ours, expected, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("activation", MERGES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tile_bytes", [600, 5000, 4 * 2**20])
def test_any_tiling_gives_the_same_winner_and_probability(case, activation, tile_bytes, monkeypatch):
    monkeypatch.setitem(class_chunks.TILE_BYTES, "cpu", tile_bytes)
    monkeypatch.setattr(class_chunks, "_MAX_COLUMNS", 17)
    monkeypatch.setattr(class_chunks, "_MIN_ROWS", 2)
    grid, padded, logits, axes, size, source = build(case)
    expected = plain(grid, padded, logits, size, source, activation)
    bias = torch.linspace(-0.2, 0.1, logits.shape[1]) if activation == "sigmoid" else None
    scores = expected if bias is None else expected + bias[:, None, None]
    running = Running.start(source, with_total=activation == "linear")
    half = 5  # words come in two passes, as the segmenter sends them
    for start, stop in ((0, half), (half, logits.shape[1])):
        merge = MERGES[activation](logits[:, start:stop], *axes)
        part = None if bias is None else bias[start:stop]
        running_argmax(running, merge, words=stop - start, first_word=start, bias=part)
    top = scores.topk(2, dim=0)
    clear = top.values[0] - top.values[1] > 1e-5
    assert clear.float().mean() > 0.999
    assert torch.equal(running.words[clear].long(), top.indices[0][clear])
    torch.testing.assert_close(running.best, top.values[0], atol=2e-6, rtol=1e-6)
    if activation == "linear":
        torch.testing.assert_close(running.probability(), scores.softmax(0).amax(0), atol=1e-6, rtol=1e-5)


def test_scale_multiplies_the_logits():
    _, _, logits, axes, _, source = build("windows, larger source")
    for merge in (LinearMerge, SigmoidMerge):
        ours = merged_maps(merge(logits, *axes, scale=7.0), source, 11)
        expected = merged_maps(merge(7 * logits, *axes), source, 11)
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-5)


def test_among_equals_the_first_word_wins_across_passes():
    running = Running.start((2, 3), with_total=False)
    for first in (0, 4):
        running.update(torch.ones(2, 4, 3), slice(0, 2), slice(0, 3), first)
    assert (running.words == 0).all()


def test_probabilities_do_not_overflow():
    running = Running.start((1, 1), with_total=True)
    for first, value in enumerate((-500.0, 900.0, 899.0)):
        running.update(torch.full((1, 1, 1), value), slice(0, 1), slice(0, 1), first)
    assert running.words.item() == 1
    assert running.probability().item() == pytest.approx(1 / (1 + torch.e**-1), rel=1e-6)


def test_probability_needs_totals():
    with pytest.raises(ValueError, match="with_total=True"):
        Running.start((1, 1), with_total=False).probability()


def test_aligned_features_come_back_as_they_were():
    features = torch.randn(3, 5, 7)  # D h w on patches of 4 pixels; windows of 3 patches every 2
    windows = torch.stack([features[:, y : y + 3, x : x + 3] for y in (0, 2) for x in (0, 2, 4)])
    vertical, horizontal = (
        cell_matrix(starts=starts, window=12, patches=3, cell=4, working=size)
        for starts, size in (((0, 8), 20), ((0, 8, 16), 28))
    )
    ours = merge_features(windows.unflatten(0, (2, 3)), vertical, horizontal)
    torch.testing.assert_close(ours, features, atol=1e-6, rtol=1e-6)


def test_a_shifted_window_shares_cells_by_overlap():
    # Windows of one 4-pixel patch at 0 and 2 over 6 pixels: cell 0 has 4 and 2 pixels of them, cell 1 only 2.
    matrix = cell_matrix(starts=(0, 2), window=4, patches=1, cell=4, working=6)
    torch.testing.assert_close(matrix, torch.tensor([[4 / 6, 2 / 6], [0.0, 1.0]]))
