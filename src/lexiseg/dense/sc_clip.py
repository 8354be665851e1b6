"""SC-CLIP: self-calibrated CLIP (Bai et al., TIP 2025), the row that TG-CLIP starts from."""

from torch import Tensor

from lexiseg.dense.base import BlockPosition, DenseEncoder, DenseState, inner_block, require_class_token
from lexiseg.errors import ConfigError
from lexiseg.ops.affinity import aggregate, contrasted_scores, cosine_affinity
from lexiseg.ops.attention import attend
from lexiseg.ops.grid import PositionMode
from lexiseg.ops.outliers import find_outliers, repair_outliers
from lexiseg.types import BlockTower

_SHARPNESS = 3.0
"""γ of the contrasted scores, fixed in the release."""


class SCCLIP(DenseEncoder):
    """Repairs outlier patches, then lets middle blocks say which patches belong together.

    With ``H_l`` the output of block l (from 0), L blocks, P the patches, ``fix`` the repair of the outliers
    of ``H_{L-2}`` by their neighbours and ``agg(S, Y)`` the row-normalised weighted mean:

    - ``M = cos(fix(H_pre))``, ``X = agg(M ≥ 0.4, fix(H_{L-2}))``;
    - ``ca(Y) = O(½ (softmax(m) + softmax(k kᵀ s)) v)`` on ``LN Y``, with ``m = 3 (M - mean M)`` and its
    negatives shut
      out, in the last block's heads, without class token, residual or MLP;
    - ``y = ca(X) + 0.3 CLS(H_{L-2})``, ``S = cos(H_post)``, ``y <- agg(S ≥ 0.4, y)``;
    - ``R = Σ H_l`` over the multi-level blocks; ``y += agg(S ≥ 0.4, ca(R_P) + 0.3 R_CLS)``.

    The published blocks of 12 are pre 8, post 3, multi 3 to 9; as fractions of the depth they scale to other
    towers. Differs from the release: rows and columns of an outlier are read off the grid's width, not its
    height, so that any rectangle works; any batch size; fewer than 31 patches work too.

    Args:
        tower: The frozen image tower.
        pre_block: Whose features decide what is aggregated before the last block.
        post_block: The same after it.
        multi_blocks: First and last block, both included, of the multi-level sum.
        class_share: Weight of the class token, 0.3.
        threshold: Cosines below it do not aggregate, 0.4.
        outlier_share: Share of patches that count as outliers, 0.05.
        position_mode: How the position embedding reaches other grids.

    Raises:
        ConfigError: No such block, a block that comes after the one before last, or a share of the class token of a tower
            that has none.
    """

    def __init__(
        self,
        tower: BlockTower,
        *,
        pre_block: BlockPosition = 8 / 12,
        post_block: BlockPosition = 3 / 12,
        multi_blocks: tuple[BlockPosition, BlockPosition] = (3 / 12, 9 / 12),
        class_share: float = 0.3,
        threshold: float = 0.4,
        outlier_share: float = 0.05,
        position_mode: PositionMode = "bicubic_offset",
    ) -> None:
        super().__init__(tower, position_mode=position_mode)
        self.pre_block = inner_block(pre_block, tower.depth, what="sc-clip: pre_block")
        self.post_block = inner_block(post_block, tower.depth, what="sc-clip: post_block")
        first, last = (inner_block(each, tower.depth, what="sc-clip: multi_blocks") for each in multi_blocks)
        self.multi_blocks = (first, last)
        if first > last:
            raise ConfigError(f"sc-clip: multi_blocks must be [first, last], got {list(multi_blocks)}")
        if class_share:
            require_class_token(
                tower, f"sc-clip adds class_share={class_share} of the class token", "set class_share=0"
            )
        self.class_share = class_share
        self.threshold = threshold
        self.outlier_share = outlier_share

    def encode(self, images: Tensor) -> DenseState:
        """Run all blocks but the last once; the last twice, calibrated, on repaired and on summed tokens."""
        grid = self.tower.grid(images)
        penultimate, pre, post, summed = self._read_blocks(images)
        patches = penultimate[:, self.prefix :]
        outliers = find_outliers(patches, share=self.outlier_share)
        middle = cosine_affinity(repair_outliers(pre[:, self.prefix :], outliers, grid))
        calm = aggregate(middle, repair_outliers(patches, outliers, grid), threshold=self.threshold)
        scores = contrasted_scores(middle, sharpness=_SHARPNESS, shift=1.0)
        together = cosine_affinity(post[:, self.prefix :])
        deep = self._calibrate(calm, scores) + self.class_share * penultimate[:, :1]
        levels = self._calibrate(summed[:, self.prefix :], scores) + self.class_share * summed[:, :1]
        # One aggregation of the sum equals the sum of both aggregations: the weights are the same.
        return self.to_state(aggregate(together, deep + levels, threshold=self.threshold), grid)

    def _read_blocks(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Outputs ``(B, prefix + P, D)`` of the block before last, the pre and post block, and the summed ones."""
        tokens = self.embed(images)
        read: dict[int, Tensor] = {}
        summed = 0 * tokens
        for index in range(self.tower.depth - 1):
            tokens = self.tower.block(index, tokens)
            if index in (self.pre_block, self.post_block):
                read[index] = tokens
            if self.multi_blocks[0] <= index <= self.multi_blocks[1]:
                summed = summed + tokens
        return tokens, read[self.pre_block], read[self.post_block], summed

    def _calibrate(self, patches: Tensor, scores: Tensor) -> Tensor:
        """The last block's attention with half its weight from the middle affinity: ``(B, P, D)``."""
        last = self.tower.depth - 1
        normed = self.tower.norm1(last, patches)
        key, value = self.tower.key(last, normed), self.tower.value(last, normed)
        by_middle = scores.softmax(dim=-1)[:, None] @ value
        return self.tower.attention_output(last, (by_middle + attend(key, key, value)) / 2)
