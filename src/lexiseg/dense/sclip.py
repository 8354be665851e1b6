"""SCLIP: correlative self-attention in the last block (Wang, Mei, Yuille, ECCV 2024)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lexiseg.dense.base import DenseEncoder, DenseState, Idle, finish_block
from lexiseg.dense.learned_projection import read_projection
from lexiseg.errors import ConfigError
from lexiseg.ops.attention import attend
from lexiseg.ops.grid import PositionMode
from lexiseg.types import BlockTower

Projection = Literal["query", "key", "identity", "random", "learned"]


def _without(projection: Projection) -> Idle:
    def changes_nothing(given: Mapping[str, Any]) -> bool:
        asked = given["projections"]
        return isinstance(asked, Sequence) and projection not in asked

    return changes_nothing, f"without {projection} among projections"


class SCLIP(DenseEncoder):
    """Every token attends to the tokens that look like itself under one projection.

    ``A = Σ_r softmax(x W_r W_rᵀ xᵀ s)`` over the chosen projections, ``y = x + O(A v)``, ``y += FFN(LN y)``.
    The method is ``(query, key)``: the sum of q-q and k-k attention (paper eq. 3), whose rows sum to 2 and
    are not halved; the release does the same. The other projections are the paper's table 2: ``identity``
    correlates the normed tokens themselves, ``random`` averages over several random matrices, ``learned``
    takes a matrix fitted beforehand (:mod:`lexiseg.dense.learned_projection`). The release contains only
    ``(query, key)``; random matrices are drawn here from N(0, 1 / D) so that they keep a token's length on
    average.

    Args:
        tower: The frozen image tower.
        projections: Which projections to sum.
        random_count: How many matrices ``random`` averages.
        random_seed: Their seed.
        learned: ``(D, D)`` matrix for ``learned``, applied as ``x W``; or the file that one is kept in.
        residual: Keep the block's residual.
        feed_forward: Keep the block's MLP.
        position_mode: How the position embedding reaches other grids.

    Raises:
        ConfigError: No or an unknown projection, or ``learned`` without a matrix of the tower's width.
    """

    idle: ClassVar[Mapping[str, Idle]] = {
        "random_count": _without("random"),
        "random_seed": _without("random"),
        "learned": _without("learned"),
    }

    def __init__(
        self,
        tower: BlockTower,
        *,
        projections: Sequence[Projection] = ("query", "key"),
        random_count: int = 4,
        random_seed: int = 0,
        learned: Tensor | str | Path | None = None,
        residual: bool = True,
        feed_forward: bool = True,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        _check_projections(projections, random_count)
        if isinstance(learned, str | Path):
            learned = read_projection(learned)
        if "learned" in projections and (learned is None or learned.shape != (tower.width, tower.width)):
            got = "nothing" if learned is None else f"shape {tuple(learned.shape)}"
            raise ConfigError(
                f"sclip: projection 'learned' needs a ({tower.width}, {tower.width}) matrix, got {got}; "
                "`lexiseg benchmark` fits one and keeps it, see ablation=sclip_table2"
            )
        self.projections = tuple(projections)
        self.residual = residual
        self.feed_forward = feed_forward
        randoms = (
            _random_matrices(tower.width, random_count, random_seed) if "random" in projections else None
        )
        self.register_buffer("_random", randoms, persistent=False)
        self.register_buffer("_learned", learned, persistent=False)

    def encode(self, images: Tensor) -> DenseState:
        """Run all blocks but the last, then the correlative reading of the last for the patches."""
        tokens = self.run_to_last(images)
        last = self.tower.depth - 1
        normed = self.tower.norm1(last, tokens)
        value = self.tower.value(last, normed)
        attended = torch.zeros_like(value[:, :, self.prefix :])
        for projection in self.projections:
            attended = attended + self._correlate(projection, normed, value)
        patches = finish_block(
            self.tower,
            attended,
            tokens[:, self.prefix :],
            residual=self.residual,
            feed_forward=self.feed_forward,
        )
        return self.to_state(patches, self.tower.grid(images))

    def _correlate(self, projection: Projection, normed: Tensor, value: Tensor) -> Tensor:
        """Values mixed by the self-correlation of one projection, for the patches: ``(B, M, P, d)``."""
        if projection == "random":
            matrices = self._buffer("_random")
            return sum(
                (self._mix(normed @ matrix, value) for matrix in matrices), 0 * value[:, :, self.prefix :]
            ) / len(matrices)
        if projection == "identity":
            return self._mix(normed, value)
        if projection == "learned":
            return self._mix(normed @ self._buffer("_learned"), value)
        read = self.tower.query if projection == "query" else self.tower.key
        projected = read(self.tower.depth - 1, normed)
        return attend(projected[:, :, self.prefix :], projected, value)

    def _mix(self, projected: Tensor, value: Tensor) -> Tensor:
        heads = self.tower.split_heads(projected)
        return attend(heads[:, :, self.prefix :], heads, value)

    def _buffer(self, name: str) -> Tensor:
        return self.get_buffer(name)


def _check_projections(projections: Sequence[str], random_count: int) -> None:
    if not projections:
        raise ConfigError("sclip: expected projections, got none; the method itself is [query, key]")
    if random_count < 1:
        raise ConfigError(f"sclip: expected random_count of at least 1, got {random_count}")


def _random_matrices(width: int, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, width, generator=generator) * width**-0.5
