"""Streaming over tiles equals the plain computation of everything at once."""

import itertools
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from lexiseg.ops import class_chunks
from lexiseg.ops.block_bounds import Blocks
from lexiseg.ops.class_chunks import HeldMaps, LinearMerge, Running, SigmoidMerge, running_argmax
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
    "windows that no pixel reads": ((71, 53), 13, 7, (1, 2), 4),
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


def test_the_best_and_the_first_that_has_it():
    scores = torch.randn(5, 13, 7, generator=torch.Generator().manual_seed(2)).mul_(2).round_()
    best, first = class_chunks._first_best(scores)
    for row, column in itertools.product(range(5), range(7)):
        here = scores[row, :, column].tolist()
        assert best[row, column] == max(here)
        assert first[row, column] == here.index(max(here))


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


@pytest.mark.parametrize("padding", ["bottom_right", "centre"])
@pytest.mark.parametrize("activation", MERGES)
@pytest.mark.parametrize("case", CASES)
def test_scores_lie_between_the_bounds_of_their_block(case, activation, padding):
    _, _, logits, axes, _, source = build(case, padding=padding)
    merge = MERGES[activation](logits, *axes, scale=0.7)
    blocks = Blocks.of(source, 7)
    lower, upper = merge.bounds(blocks, slice(2, 9))
    assert lower.shape == upper.shape == (len(blocks.rows) - 1, len(blocks.columns) - 1, 7)
    for row, rows in enumerate(itertools.starmap(slice, pairwise(blocks.rows))):
        for column, columns in enumerate(itertools.starmap(slice, pairwise(blocks.columns))):
            tile = merge.tile(rows, columns, slice(2, 9)).transpose(0, 1).flatten(1)
            assert (lower[row, column] <= tile.amin(1)).all()
            assert (upper[row, column] >= tile.amax(1)).all()


@pytest.mark.parametrize("activation", MERGES)
@pytest.mark.parametrize("case", CASES)
def test_a_score_has_the_same_bits_in_every_tile(case, activation):
    _, _, logits, axes, _, source = build(case, words=53)
    merge = MERGES[activation](logits, *axes, scale=40.0)
    whole = merge.tile(slice(0, source[0]), slice(0, source[1]), slice(0, 53))
    random = torch.Generator().manual_seed(5)
    for _ in range(40):
        count = int(torch.randint(1, 54, (), generator=random))
        words = torch.randperm(53, generator=random)[:count].sort().values
        (top, bottom), (left, right) = (
            torch.randperm(side + 1, generator=random)[:2].sort().values.tolist() for side in source
        )
        tile = merge.tile(slice(top, bottom), slice(left, right), words)
        assert torch.equal(tile, whole[top:bottom, words, left:right])


@pytest.mark.parametrize("activation", MERGES)
def test_so_it_has_where_a_photograph_is_much_smaller_than_what_is_read(activation, monkeypatch):
    patch = 2 if activation == "linear" else 61
    monkeypatch.setitem(CASES, "long sums", ((607, 613), 307, 293, (211, 223), patch))
    _, _, logits, axes, _, source = build("long sums", words=2)
    merge = MERGES[activation](logits, *axes, scale=2.0)
    whole = merge.tile(slice(0, source[0]), slice(0, source[1]), slice(0, 2))
    for rows, columns in itertools.product(
        (slice(0, 97), slice(64, 211), slice(101, 137)), (slice(31, 223), slice(97, 131))
    ):
        assert torch.equal(merge.tile(rows, columns, slice(0, 2)), whole[rows, :, columns])


def labelled(merge_of, logits, axes, source, bias, worth, monkeypatch):
    """Winners and their scores, words in two passes, with bounds from ``worth`` words on; and how many were scored where."""
    monkeypatch.setattr(class_chunks, "_WORDS_WORTH_BOUNDS", worth)
    running, scored = Running.start(source, with_total=False), []
    half = logits.shape[1] // 2
    for part in (slice(0, half), slice(half, logits.shape[1])):
        merge = merge_of(logits[:, part], *axes)
        tile = merge.tile
        merge.tile = lambda rows, columns, words, tile=tile: (
            scored.append(tile(rows, columns, words)) or scored[-1]
        )
        of_part = None if bias is None else bias[part]
        running_argmax(running, merge, words=part.stop - part.start, first_word=part.start, bias=of_part)
    return running, sum(each.numel() for each in scored)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("activation", MERGES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["random", "smooth", "ties", "all alike", "nan", "nan at a patch"])
def test_bounds_leave_every_label_as_it_is(case, activation, kind, monkeypatch):
    monkeypatch.setattr(class_chunks, "_BLOCK_SIDE", 5)
    monkeypatch.setattr(class_chunks, "_WORDS_PER_BOUND", 11)
    monkeypatch.setattr(class_chunks, "_JOINED", 6)
    _, _, logits, axes, _, source = build(case, words=47)
    if kind == "smooth":  # words differ more than places do
        logits = 0.1 * logits + torch.randn(47, generator=torch.Generator().manual_seed(7))[:, None, None]
    elif kind == "ties":
        logits = logits.round().clamp(-1, 1)
        logits[:, 30:44] = logits[:, 3:17]
    elif kind == "all alike":
        logits = torch.full_like(logits, 0.3)
    elif kind == "nan":
        logits[:, 29] = torch.nan
    elif kind == "nan at a patch":
        logits[0, 19, 0, -1], logits[-1, 29, -1, 0], logits[0, 31, 0, 0] = torch.nan, torch.inf, -torch.inf
    bias = torch.linspace(-0.2, 0.1, 47) if activation == "sigmoid" else None
    common = (MERGES[activation], logits, axes, source, bias)
    plain_way, all_scored = labelled(*common, 1000, monkeypatch)
    ours, scored = labelled(*common, 1, monkeypatch)
    assert torch.equal(ours.words, plain_way.words)
    torch.testing.assert_close(ours.best, plain_way.best, rtol=0, atol=0, equal_nan=True)
    if kind == "smooth":
        assert scored < 0.4 * all_scored
    elif kind != "all alike":
        assert len(ours.words.unique()) > 1 or kind == "nan"


@pytest.mark.parametrize("activation", MERGES)
@pytest.mark.parametrize("worth", [1, 1000])
def test_a_word_that_is_no_number_at_a_patch_loses_there_and_nowhere_else(activation, worth, monkeypatch):
    _, _, logits, axes, _, source = build("one window, same size", words=13)
    logits[:, 5] += 30  # would win everywhere
    logits[0, 5, 0, 0] = torch.nan
    ours, _ = labelled(MERGES[activation], logits, axes, source, None, worth, monkeypatch)
    seen = torch.zeros(source, dtype=torch.bool)
    seen[:12, :12] = True  # a patch of 8 reaches to the next one's centre
    assert torch.equal(ours.words == 5, ~seen)
    assert ours.best.isfinite().all()
    logits[0, 5] = -60
    others, _ = labelled(MERGES[activation], logits, axes, source, None, worth, monkeypatch)
    assert torch.equal(ours.words[seen], others.words[seen])


def test_tiles_of_candidates_keep_to_what_their_working_pixels_may_take(monkeypatch):
    monkeypatch.setitem(class_chunks.TILE_BYTES, "cpu", 4 * 5000)
    monkeypatch.setattr(class_chunks, "_WORDS_WORTH_BOUNDS", 1)
    sizes = []

    class Level(HeldMaps):
        def bounds(self, blocks, words):
            shape = (len(blocks.rows) - 1, len(blocks.columns) - 1, words.stop - words.start)
            return torch.zeros(shape), torch.ones(shape)

        def tile(self, rows, columns, words):
            sizes.append(super().tile(rows, columns, words).numel())
            return super().tile(rows, columns, words)

    running = Running.start((11, 13), with_total=False)
    running_argmax(running, Level(torch.rand(83, 11, 13)), words=83, reduction=17.0)
    assert sum(sizes) == 83 * 11 * 13
    assert 5000 / 17 / 2 < max(sizes) <= 5000 / 17


def test_probabilities_take_every_word(monkeypatch):
    monkeypatch.setattr(class_chunks, "_WORDS_WORTH_BOUNDS", 1)
    _, _, logits, axes, _, source = build("windows, larger source")
    logits = 0.1 * logits + torch.linspace(-1, 1, 11)[:, None, None]  # some win nowhere
    running = Running.start(source, with_total=True)
    merge = LinearMerge(logits, *axes)
    running_argmax(running, merge, words=11)
    expected = merged_maps(merge, source, 11).softmax(0).amax(0)
    torch.testing.assert_close(running.probability(), expected, atol=1e-6, rtol=1e-5)
