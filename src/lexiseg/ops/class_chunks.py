"""From window logits to the best class of every source pixel, in memory that does not grow with the classes.

The plain way upsamples all classes to full size, averages windows, resizes and takes the argmax: K full-size
maps several times over. Here a tile of a few rows and classes passes through all of it at once and leaves
behind three numbers a pixel: the best score, whose it is, and (for probabilities) the sum of exponentials.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from lexiseg.ops.block_bounds import Blocks, Corners, block_spans, interpolation_bounds, rounding_share
from lexiseg.ops.steady import steady_sigmoid_
from lexiseg.ops.window_merge import AxisPlan, BandedMatrix
from lexiseg.types import chunks

TILE_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
"""Size of one tile. On a CPU it should stay in the last cache; a larger one costs several times the time."""

_MIN_ROWS = 8
_MAX_COLUMNS = 1024
_FLOAT_BYTES = 4

_BLOCK_SIDE = 32
"""Pixels of a side of the blocks that bounds speak of: the smaller, the fewer words are left in each, the more there are."""

_JOINED = 64
"""Words times blocks up to which blocks side by side are worked on as one: so much costs no more than to begin anew."""

_WORDS_WORTH_BOUNDS = 64
"""From how many words on bounds cost less than they save."""

_HUGE = 1e30
"""Stands for infinity, which zero weights would turn into nan beyond the pixels that read it."""

_WORDS_PER_BOUND = 128
"""Words whose bounds are made at once; more would not stay in the last cache."""

Picked = slice | Tensor
"""Some words of a source: side by side, or by their indices ``(m,)``, ascending."""


@dataclass(frozen=True)
class Running:
    """The state of a running argmax over words.

    Attributes:
        best: ``(H, W)`` highest score so far, ``-inf`` before the first.
        words: ``(H, W)`` int32, whose it is; the lower index among equals.
        total: ``(H, W)`` sum of ``exp(score - best)`` over all words so far; None where nobody asks.
    """

    best: Tensor
    words: Tensor
    total: Tensor | None

    @classmethod
    def start(
        cls, size: tuple[int, int], *, with_total: bool, device: torch.device | None = None
    ) -> "Running":
        """Nothing seen yet."""
        best = torch.full(size, -torch.inf, device=device)
        words = torch.zeros(size, dtype=torch.int32, device=device)
        return cls(best, words, torch.zeros(size, device=device) if with_total else None)

    def update(
        self, scores: Tensor, rows: slice, columns: slice, first_word: int, picked: Tensor | None = None
    ) -> None:
        """Take in some words' scores at some pixels.

        Args:
            scores: ``(R, M, C)``, is overwritten.
            rows: Of the pixels.
            columns: Likewise.
            first_word: The words are this one and those that follow it.
            picked: ``(M,)`` which of those the scores are of, ascending; None for the first M.
        """
        old, old_words = self.best[rows, columns], self.words[rows, columns]
        best, word = _first_best(scores)
        word = word if picked is None else picked[word]
        better = best > old
        new = torch.where(better, best, old)
        self.words[rows, columns] = torch.where(better, word.to(torch.int32) + first_word, old_words)
        if self.total is not None:
            fresh = scores.sub_(new[:, None]).exp_().sum(dim=1)
            self.total[rows, columns] = self.total[rows, columns] * (old - new).exp_() + fresh
        self.best[rows, columns] = new

    def probability(self) -> Tensor:
        """``(H, W)`` soft-max probability of the best word among all seen; overwrites ``total``."""
        if self.total is None:
            raise ValueError("probabilities need a state started with with_total=True")
        return self.total.reciprocal_()


def _first_best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum of ``(R, M, C)`` over M, and the first index that has it, ``(R, C)`` both.

    As ``scores.max(dim=1)``, of which torch takes ten times as long on a processor. Where there is nan, the last index.
    """
    best, count = scores.amax(dim=1), scores.shape[1]
    hits = torch.eq(scores, best[:, None], out=torch.empty_like(scores))  # 1 or 0 in the type of the scores
    backwards = torch.arange(count, 0, -1, device=scores.device, dtype=scores.dtype)
    last = hits.mul_(backwards[:, None]).amax(dim=1)
    return best, (count - last).long().clamp_(max=count - 1)


class TileSource(Protocol):
    """Scores of some words at some pixels, made when asked for; the same to the bit in whatever tile they are asked for."""

    def tile(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """``(R, M, C)`` scores, which the caller may overwrite."""

    def bounds(self, blocks: Blocks, words: slice) -> tuple[Tensor, Tensor] | None:
        """Lower and upper bounds ``(B, C, M)`` of what :meth:`tile` gives in each block; None where nobody knows."""
        return None

    def rows_at_once(self, columns: int, wanted: int) -> int:
        """How many of the wanted rows a tile of so many columns may have, for further words of it to find its work done."""
        return wanted


class HeldMaps(TileSource):
    """Whole maps ``(M, H, W)`` as a source of tiles."""

    def __init__(self, maps: Tensor) -> None:
        self._maps = maps

    def tile(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """``(R, M, C)``, a copy: the caller may overwrite it."""
        return self._maps[words, rows, columns].transpose(0, 1).clone()


class LinearMerge(TileSource):
    """Tiles of window-averaged logits at source size: one product of three matrices.

    Args:
        logits: ``(W, M, h, w)`` of all windows, row by row.
        vertical: Plan of the vertical axis.
        horizontal: Plan of the horizontal axis.
        scale: Factor on the logits.
    """

    def __init__(
        self, logits: Tensor, vertical: AxisPlan, horizontal: AxisPlan, *, scale: float = 1.0
    ) -> None:
        grid = _on_grid(logits, vertical, horizontal)
        self._maps = grid.permute(0, 3, 2, 1, 4).flatten(3).flatten(0, 1)  # (Wy * h, M, Wx * w)
        self._vertical, self._horizontal = vertical.way(scale), horizontal.way()

    def tile(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """``(R, M, C)`` scaled logits of some words at some source pixels."""
        maps = self._maps[self._vertical.columns(rows), words, self._horizontal.columns(columns)]
        return self._horizontal.times_rows(self._vertical.rows_times(rows, maps), columns)

    def bounds(self, blocks: Blocks, words: slice) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds ``(B, C, M)`` of the tiles in each block."""
        vertical = self._vertical.corners(block_spans(blocks.rows))
        horizontal = self._horizontal.corners(block_spans(blocks.columns))
        return interpolation_bounds(self._maps[:, words], vertical, horizontal)


class SigmoidMerge(TileSource):
    """Tiles of window-averaged sigmoids at source size.

    The sigmoid stands between upsampling and averaging, so the working image is built first, but only as much
    of it as the tile reads.

    Args:
        logits: ``(W, M, h, w)`` of all windows, row by row.
        vertical: Plan of the vertical axis.
        horizontal: Plan of the horizontal axis.
        scale: Factor on the logits.
    """

    def __init__(
        self, logits: Tensor, vertical: AxisPlan, horizontal: AxisPlan, *, scale: float = 1.0
    ) -> None:
        grid = _on_grid(logits, vertical, horizontal)
        self._maps = grid.permute(0, 1, 3, 2, 4).contiguous()  # (Wy, Wx, h, M, w)
        self._plans = (vertical, horizontal)
        self._upsample = (BandedMatrix(vertical.upsample * scale), BandedMatrix(horizontal.upsample))
        self._resample = tuple(None if p.resample is None else BandedMatrix(p.resample) for p in self._plans)
        coverage = tuple(plan.coverage() for plan in self._plans)
        self._share = tuple(count.reciprocal() for count in coverage)
        self._overlapped: tuple[list[bool], ...] = tuple((count > 1).tolist() for count in coverage)
        self._terms = sum(int(count.amax()) for count in coverage) + int(
            coverage[0].amax() * coverage[1].amax()
        )

    def tile(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """``(R, M, C)`` mean sigmoids of some words at some source pixels."""
        vertical, horizontal = self._resample
        maps = self._canvas(
            rows if vertical is None else vertical.columns(rows),
            columns if horizontal is None else horizontal.columns(columns),
            words,
        )
        maps = maps if vertical is None else vertical.rows_times(rows, maps)
        return maps if horizontal is None else horizontal.times_rows(maps, columns)

    def bounds(self, blocks: Blocks, words: slice) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds ``(B, C, M)`` of the tiles in each block: those of all windows that lie over it."""
        size = (len(blocks.rows) - 1, len(blocks.columns) - 1, _length(words))
        lower, upper = self._maps.new_full(size, torch.inf), self._maps.new_full(size, -torch.inf)
        columns = list(enumerate(self._window_corners(1, blocks.columns)))
        for row, (down, vertical) in enumerate(self._window_corners(0, blocks.rows)):
            for column, (across, horizontal) in columns:
                low, high = interpolation_bounds(self._maps[row, column, :, words], vertical, horizontal)
                lower[down, across] = lower[down, across].minimum(low)
                upper[down, across] = upper[down, across].maximum(high)
        share = rounding_share(self._terms)
        return lower.sigmoid_() - share, upper.sigmoid_() + share

    def _window_corners(self, axis: int, edges: tuple[int, ...]) -> Iterator[tuple[slice, Corners]]:
        """For each window along an axis the blocks that it lies over, and their corners in it."""
        plan, resample = self._plans[axis], self._resample[axis]
        parts = [slice(first, stop) for first, stop in pairwise(edges)]
        reads = parts if resample is None else [resample.columns(part) for part in parts]
        for start in plan.starts:
            stop = start + plan.window
            over = [index for index, read in enumerate(reads) if read.start < stop and read.stop > start]
            if not over:
                continue  # a much smaller photograph may read nothing of a window
            blocks = slice(over[0], over[-1] + 1)
            spans = tuple(
                (max(read.start, start) - start, min(read.stop, stop) - 1 - start) for read in reads[blocks]
            )
            yield blocks, self._upsample[axis].corners(spans)

    def _canvas(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """Mean sigmoids ``(R, M, C)`` at working pixels."""
        canvas: Tensor | None = None
        size = (_length(rows), _length(words), _length(columns))
        vertical, horizontal = self._upsample
        for row, window_rows, at_rows in self._overlaps(0, rows):
            bands = self._maps[row, :, vertical.columns(window_rows), words]
            for column, window_columns, at_columns in self._overlaps(1, columns):
                maps = vertical.rows_times(
                    window_rows, bands[column, ..., horizontal.columns(window_columns)]
                )
                part = steady_sigmoid_(horizontal.times_rows(maps, window_columns))
                if canvas is None and part.shape == size:
                    canvas = part  # the first window covers the tile and is often the only one
                    continue
                if canvas is None:
                    canvas = part.new_zeros(size)
                canvas[at_rows, :, at_columns] += part
        if canvas is None:
            raise ValueError("windows must cover the image")
        if any(self._overlapped[0][rows]) or any(self._overlapped[1][columns]):
            canvas *= self._share[0][rows, None, None] * self._share[1][columns]
        return canvas

    def _overlaps(self, axis: int, pixels: slice) -> Iterator[tuple[int, slice, slice]]:
        """Windows over some working pixels: index, the pixels counted from its start, and from the tile's."""
        plan = self._plans[axis]
        for index, start in enumerate(plan.starts):
            first, last = max(pixels.start, start), min(pixels.stop, start + plan.window)
            if first < last:
                of_tile = slice(first - pixels.start, last - pixels.start)
                yield index, slice(first - start, last - start), of_tile


def running_argmax(
    running: Running,
    merge: TileSource,
    *,
    words: int,
    first_word: int = 0,
    bias: Tensor | None = None,
    reduction: float = 1.0,
) -> None:
    """Take all words of ``merge`` into the running state, tile by tile.

    Args:
        running: Is updated.
        merge: Gives tiles of scores.
        words: How many words ``merge`` holds.
        first_word: Index of its first word in the whole vocabulary.
        bias: ``(words,)`` added to the scores before they compete, such as minus the seen-class penalty.
        reduction: Working pixels per source pixel where that is above 1, so that tiles keep to their budget.
    """
    tile_bytes = TILE_BYTES.get(running.best.device.type, TILE_BYTES["cpu"])
    budget = tile_bytes / (_FLOAT_BYTES * max(reduction, 1.0))
    if running.total is None and _prune(
        running, merge, words=words, first_word=first_word, bias=bias, budget=budget
    ):
        return
    height, width = running.best.shape
    column_step = min(width, _MAX_COLUMNS)
    word_step = max(1, min(words, int(budget / (_MIN_ROWS * column_step))))
    word_step = -(
        -words // -(-words // word_step)
    )  # even pieces: a small last one would cost like a full one
    row_step = max(1, min(height, int(budget / (word_step * column_step))))
    row_step = merge.rows_at_once(column_step, row_step)
    for rows in chunks(height, row_step):
        for columns in chunks(width, column_step):
            for part in chunks(words, word_step):
                scores = merge.tile(rows, columns, part)
                if bias is not None:
                    scores += bias[part, None]
                running.update(scores, rows, columns, first_word + part.start)


def _prune(
    running: Running, merge: TileSource, *, words: int, first_word: int, bias: Tensor | None, budget: float
) -> bool:
    """:func:`running_argmax` with each block's work done for the words alone that may win in it.

    A word wins nowhere in a block where its upper bound lies below another word's lower bound, or below the lowest of the
    best scores so far. Words that may draw level stay, so that the winner is the same to the last pixel.

    Returns:
        Whether it was done: a few words are cheaper without, a graphics card prefers few large tiles, and not every
        source knows bounds.
    """
    if words < _WORDS_WORTH_BOUNDS or running.best.device.type != "cpu":
        return False
    blocks = Blocks.of((running.best.shape[0], running.best.shape[1]), _BLOCK_SIDE)
    floor, uppers = blocks.lowest(running.best), []
    for part in chunks(words, _WORDS_PER_BOUND):
        bounds = merge.bounds(blocks, part)
        if bounds is None:
            return False
        lower, upper = bounds if bias is None else (bound + bias[part] for bound in bounds)
        floor = torch.maximum(floor, lower.amax(2))
        uppers.append(upper)
    lost = torch.cat([upper < floor[..., None] for upper in uppers], dim=2)  # nan is never below
    for rows, columns, candidates in _joined(blocks, ~lost):
        step = max(1, int(budget / (_length(rows) * _length(columns))))
        for picked in candidates.split(step):
            scores = merge.tile(rows, columns, picked)
            if bias is not None:
                scores += bias[picked, None]
            running.update(scores, rows, columns, first_word, picked)
    return True


def _joined(blocks: Blocks, candidates: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and candidates of blocks that have any; neighbours in a row as one while it stays small.

    Args:
        blocks: The blocks.
        candidates: ``(B, C, M)`` bool.
    """
    for row, band in enumerate(candidates):
        left = band.any(1).tolist()
        first = 0
        while first < len(band):
            stop, union = first + 1, band[first]
            while stop < len(band) and left[first] and left[stop]:
                wider = union | band[stop]
                if int(wider.sum()) * (stop + 1 - first) > _JOINED:
                    break
                stop, union = stop + 1, wider
            if left[first]:
                rows = slice(blocks.rows[row], blocks.rows[row + 1])
                yield rows, slice(blocks.columns[first], blocks.columns[stop]), union.nonzero().flatten()
            first = stop


def _on_grid(logits: Tensor, vertical: AxisPlan, horizontal: AxisPlan) -> Tensor:
    """``(Wy, Wx, M, h, w)`` float32 of ``(W, M, h, w)``; a word loses at the pixels that read a nan of it, nowhere else."""
    finite = logits.float().nan_to_num(nan=-_HUGE, posinf=_HUGE, neginf=-_HUGE)
    return finite.unflatten(0, (len(vertical.starts), len(horizontal.starts)))


def _length(part: Picked) -> int:
    return len(part) if isinstance(part, Tensor) else part.stop - part.start
