"""SAN's shadow class tokens: one copy of CLIP's class token per region, steered by predicted attention biases (sec. 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.clip.towers.vit import VisionTower
from lexiseg.models.early_blocks import EarlyTokens
from lexiseg.models.perceptron import perceptron
from lexiseg.ops.attention import attend
from lexiseg.ops.class_vectors import best_word
from lexiseg.ops.shadow_attention import shadow_mask, touched_patches
from lexiseg.ops.window_max import window_max
from lexiseg.types import ClassWords, Proposals


class ShadowTokens(nn.Module):
    """Names regions by running copies of the class token through CLIP's last blocks, which stay frozen.

    The bias of a region at a patch is ``a (q · f_head) + b``: q the region's embedding, f a perceptron of the pixel map,
    one for each of CLIP's heads, a and b two scalars. It is the same in all of these blocks.

    Args:
        pixel_width: Channels of the proposals' pixel map.
        region_width: Channels of the proposals' embeddings.
        hidden: Channels inside the perceptron.
        heads: Of CLIP's blocks.
        embed_dim: Channels E of the text space.
        scale: Of cosines; 100 in every CLIP of OpenAI.
    """

    def __init__(
        self, *, pixel_width: int, region_width: int, hidden: int, heads: int, embed_dim: int, scale: float
    ) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.pixels = perceptron(pixel_width, hidden, hidden, heads * region_width, pointwise=True)
        self.bias_scaling = nn.Linear(1, 1)
        self.nothing = nn.Parameter(torch.randn(1, embed_dim) * embed_dim**-0.5)

    def bias(self, proposals: Proposals) -> Tensor:
        """Attention biases ``(B, M, N, h, w)`` on the grid of the proposals' pixel map.

        Raises:
            ValueError: The proposals come without embeddings or without a pixel map.
        """
        if proposals.embeddings is None or proposals.pixels is None:
            raise ValueError(
                "shadow tokens need proposals with embeddings and the map that their masks were read from"
            )
        pixels = self.pixels(proposals.pixels).unflatten(1, (self.heads, -1))  # (B, M, C, h, w)
        cosines = torch.einsum("bnc,bmchw->bmnhw", proposals.embeddings, pixels)
        return cosines * self.bias_scaling.weight[0, 0] + self.bias_scaling.bias[0]

    def attention_bytes(self, regions: int, patches: int) -> int:
        """About what its largest tensors take: the mask, a number for each pair of tokens and head, and as many scores."""
        return 2 * 4 * self.heads * (regions + 1 + patches) ** 2

    def embed(self, proposals: Proposals, early: EarlyTokens, tower: VisionTower) -> Tensor:
        """Regions to text space.

        Args:
            proposals: N regions of each image, with embeddings and pixel map. Of bare masks, the mask is the bias: a token sees
                the patches that its mask touches, in every head alike, and no other.
            early: CLIP's tokens before the blocks that the shadow tokens run through.
            tower: The frozen CLIP.

        Returns:
            ``(B, N, E)``, unit.
        """
        if proposals.embeddings is None:
            bias = touched_patches(proposals.masks, early.grid)[:, None].expand(-1, self.heads, -1, -1, -1)
        else:
            regions = self.bias(proposals)
            pooled = window_max(regions.flatten(0, 1), early.grid)
            bias = pooled.unflatten(0, regions.shape[:2])
        mask = shadow_mask(bias.flatten(3))
        count = bias.shape[2]
        tokens = torch.cat([early.tokens[:, :1].expand(-1, count, -1), early.tokens], dim=1)
        for index in range(early.last, tower.depth):
            query, key, value = tower.qkv(index, tower.norm1(index, tokens))
            # Contiguous, for a traced program cannot tell in which order torch's attention lays out what it gives.
            heads = attend(query, key, value, bias=mask).contiguous()
            tokens = tokens + tower.attention_output(index, heads)
            tokens = tokens + tower.mlp(index, tokens)
        return F.normalize(tower.project(tokens[:, :count]), dim=-1)

    def logits(self, embeddings: Tensor, words: ClassWords) -> Tensor:
        """Class logits of embedded regions.

        Args:
            embeddings: ``(B, N, E)`` of :meth:`embed`.
            words: Of K classes.

        Returns:
            ``(B, N, K + 1)``: the best word of each class, and "nothing" last, a trained row of its own.
        """
        named = best_word(embeddings @ words.text.T, words.class_ids, words.classes)
        nothing = embeddings @ F.normalize(self.nothing, dim=-1).T
        return self.scale * torch.cat([named, nothing], dim=-1)
