"""Scores of features that reach a photograph's pixels before they are compared with words, a tile at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

from lexiseg.ops.class_chunks import TILE_BYTES, Picked, TileSource
from lexiseg.types import chunks

_TILES = 4
"""Features of a tile may take so many times the size of a tile of scores: a row of them is large."""


class ComparedTiles(TileSource):
    """Tiles of ``scale * words @ pull(features)``, where the features are those of source pixels.

    Args:
        features: Tiles of features, their channels in place of words.
        channels: How many there are.
        pull: Features ``(R, E, C)`` of pixels to those that the words are compared with.
        words: ``(M, E)`` that are asked for.
        scale: Factor on the scores.
    """

    def __init__(
        self,
        features: TileSource,
        channels: int,
        *,
        pull: Callable[[Tensor], Tensor],
        words: Tensor,
        scale: float = 1.0,
    ) -> None:
        self._features = features
        self._channels = slice(0, channels)
        self._pull = pull
        self._words = words.float() * scale
        self._budget = _TILES * TILE_BYTES.get(words.device.type, TILE_BYTES["cpu"])
        self._last: tuple[tuple[slice, slice], Tensor] | None = None

    def tile(self, rows: slice, columns: slice, words: Picked) -> Tensor:
        """``(R, M, C)`` scaled scores of some words at some source pixels."""
        wanted = rows.stop - rows.start
        pieces = chunks(wanted, self.rows_at_once(columns.stop - columns.start, wanted))
        return torch.cat(
            [
                self._words[words]
                @ self._pulled(slice(rows.start + piece.start, rows.start + piece.stop), columns)
                for piece in pieces
            ]
        )

    def rows_at_once(self, columns: int, wanted: int) -> int:
        """As many rows as features are kept of."""
        return max(1, min(wanted, self._budget // (4 * self._channels.stop * columns)))

    def _pulled(self, rows: slice, columns: slice) -> Tensor:
        """Features ``(R, E, C)``; the last ones are kept, since further words of a tile ask for them again."""
        if self._last is None or self._last[0] != (rows, columns):
            self._last = ((rows, columns), self._pull(self._features.tile(rows, columns, self._channels)))
        return self._last[1]
