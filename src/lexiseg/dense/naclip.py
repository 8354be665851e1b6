"""NACLIP: neighbourhood-aware k-k attention (Hajimiri, Ben Ayed, Dolz, WACV 2025)."""

from typing import Literal

from torch import Tensor

from lexiseg.dense.base import DenseEncoder, DenseState, finish_block
from lexiseg.errors import ConfigError
from lexiseg.ops.attention import attend, neighborhood_bias
from lexiseg.ops.grid import PositionMode
from lexiseg.types import BlockTower

NACLIPSimilarity = Literal["key", "query-key", "none"]


class NACLIP(DenseEncoder):
    """Patches attend to similar keys and to their neighbours: ``A = softmax(k kᵀ s + w)``, ``y = O(A v)``.

    ``w_ij = exp(-(dr² + dc²) / (2 σ²))`` in patches, 0 in the class token's row and column. The reduced
    encoder, without residual and MLP, is the default of paper and release. Where the keys do not measure the
    similarity, the release brings the neighbourhood to the size of the scores, ``w s mean_ij |q_i| |k_j|``,
    the mean taken over all token pairs and heads; here per image, so that a batch equals its images.

    Args:
        tower: The frozen image tower.
        sigma: Width of the neighbourhood in patches; the release's 5.
        similarity: ``key`` is the method; ``query-key`` adds the scaled neighbourhood to CLIP's own scores,
            ``none`` takes it alone (the paper's ablations).
        residual: Keep the block's residual.
        feed_forward: Keep the block's MLP.
        position_mode: How the position embedding reaches other grids.

    Raises:
        ConfigError: ``sigma`` is not above 0.
    """

    def __init__(
        self,
        tower: BlockTower,
        *,
        sigma: float = 5.0,
        similarity: NACLIPSimilarity = "key",
        residual: bool = False,
        feed_forward: bool = False,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        if sigma <= 0:
            raise ConfigError(f"naclip: expected sigma above 0 patches, got {sigma}; the release uses 5")
        self.sigma = sigma
        self.similarity: NACLIPSimilarity = similarity
        self.residual = residual
        self.feed_forward = feed_forward

    def encode(self, images: Tensor) -> DenseState:
        """Run all blocks but the last, then its neighbourhood-aware attention for the patches."""
        grid = self.tower.grid(images)
        tokens = self.run_to_last(images)
        last = self.tower.depth - 1
        normed = self.tower.norm1(last, tokens)
        near = neighborhood_bias(grid, sigma=self.sigma, device=images.device, prefix=self.prefix)
        bias = near[self.prefix :]
        key, value = self.tower.key(last, normed), self.tower.value(last, normed)
        if self.similarity == "key":
            attended = attend(key[:, :, self.prefix :], key, value, bias=bias)
        else:
            query = self.tower.query(last, normed)
            bias = bias * _typical_score(query, key)
            patch_query = query[:, :, self.prefix :] * (self.similarity == "query-key")
            attended = attend(patch_query, key, value, bias=bias)
        patches = finish_block(
            self.tower,
            attended,
            tokens[:, self.prefix :],
            residual=self.residual,
            feed_forward=self.feed_forward,
        )
        return self.to_state(patches, grid)


def _typical_score(query: Tensor, key: Tensor) -> Tensor:
    """``s mean |q_i| |k_j|`` over tokens and heads of each image, ``(B, 1, 1, 1)``."""
    lengths = query.norm(dim=-1).mean(dim=-1) * key.norm(dim=-1).mean(dim=-1)  # (B, M)
    return (lengths.mean(dim=-1) * query.shape[-1] ** -0.5).view(-1, 1, 1, 1)
