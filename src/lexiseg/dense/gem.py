"""GEM: self-self attention over queries, keys and values (Bousselham et al., CVPR 2024)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lexiseg.dense.base import BlockPosition, DenseEncoder, DenseState, block_count
from lexiseg.dense.side_stream import BlockReading, run_with_side_stream
from lexiseg.errors import ConfigError
from lexiseg.ops.attention import attend
from lexiseg.ops.grid import PositionMode
from lexiseg.types import BlockTower


class GEM(DenseEncoder):
    """A second stream through the last blocks in which similar tokens gather before they mix values.

    For X in {v, k, q}: ``n = X / |X|``, ``X <- softmax(n nᵀ t) n`` repeated, then ``softmax(n nᵀ t) v``; the
    mean of the three goes through O and is added to the stream, which starts from the tokens entering the
    first such block and has no MLP (paper eq. 3 to 6). ``t = mean_tokens |LN x| / sqrt(d)`` per image and
    block. The release's depth 7 means the last 6 blocks. GEM's words come from one template, ``a photo of a
    {}.``.

    Args:
        tower: The frozen image tower.
        blocks: How many last blocks have the second stream; half the depth, 6 of 12, by default.
        iterations: How often tokens gather before the values are mixed.
        inverse_temperature: t itself, instead of the measured one.
        residual: Sum the stream over the blocks; without it only the last block's term is left, which is how
            ClearCLIP's copy compares GEM.
        position_mode: How the position embedding reaches other grids; the release antialiases.

    Raises:
        ConfigError: No such number of blocks, or negative iterations.
    """

    templates = "gem"

    def __init__(
        self,
        tower: BlockTower,
        *,
        blocks: BlockPosition = 0.5,
        iterations: int = 1,
        inverse_temperature: float | None = None,
        residual: bool = True,
        position_mode: PositionMode = "bicubic_antialias",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        if iterations < 0:
            raise ConfigError(f"gem: expected iterations of at least 0, got {iterations}")
        self.blocks = block_count(blocks, tower.depth, what="gem: blocks") if residual else 1
        self.iterations = iterations
        self.inverse_temperature = inverse_temperature
        self.residual = residual

    def encode(self, images: Tensor) -> DenseState:
        """Run the ordinary stream up to the last block and the second stream beside it."""
        patches, _, _ = run_with_side_stream(
            self.tower, self.embed(images), blocks=self.blocks, read=self._read, keep_input=self.residual
        )
        return self.to_state(patches, self.tower.grid(images))

    def _read(self, block: BlockReading) -> Tensor:
        sharpness = self._sharpness(block)
        readings = [self._self_self(x, block.value, sharpness) for x in (block.value, block.key, block.query)]
        return torch.stack(readings).mean(dim=0)

    def _sharpness(self, block: BlockReading) -> Tensor:
        """T per image, ``(B, 1, 1, 1)``."""
        if self.inverse_temperature is not None:
            return block.normed.new_full((1, 1, 1, 1), self.inverse_temperature)
        length = block.normed.norm(dim=-1).mean(dim=-1)
        return length.view(-1, 1, 1, 1) * block.query.shape[-1] ** -0.5

    def _self_self(self, tokens: Tensor, value: Tensor, sharpness: Tensor) -> Tensor:
        """Gather ``(B, M, N, d)`` tokens, then mix the values: ``(B, M, P, d)`` for the patches."""
        for _ in range(self.iterations):
            unit = F.normalize(tokens, dim=-1)
            tokens = attend(unit * sharpness, unit, unit, scale=1.0)
        unit = F.normalize(tokens, dim=-1)
        return attend(unit[:, :, self.prefix :] * sharpness, unit, value, scale=1.0)
