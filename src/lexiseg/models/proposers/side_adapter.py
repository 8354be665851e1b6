"""SAN's side adapter: a small ViT beside a frozen CLIP that proposes regions (Xu et al., CVPR 2023, sec. 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.models.early_blocks import EarlyTokens
from lexiseg.models.perceptron import perceptron
from lexiseg.models.proposers.side_adapter_settings import SideAdapterSettings
from lexiseg.models.side_block import SideBlock
from lexiseg.ops.grid import map_to_tokens, resize_position_embedding, tokens_to_map
from lexiseg.types import Proposals

_STD = 0.02
_EPS = 1e-6


class SideFusion(nn.Module):
    """CLIP's patches as what is added to the side ViT's: norm, projection, then resizing to its grid.

    Args:
        inputs: CLIP's channels.
        outputs: The side ViT's.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs, eps=_EPS)
        self.projection = nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(self, patches: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
        """Patches ``(B, h'*w', D)`` of one grid to ``(B, h*w, C)`` of another."""
        projected = self.projection(tokens_to_map(self.norm(patches), source))
        return map_to_tokens(F.interpolate(projected, size=target, mode="bilinear", align_corners=False))


class SideAdapter(nn.Module):
    """A small ViT on the whole image with learned queries; CLIP's tokens enter after some of its blocks.

    Positions are added before every block. Its last blocks are decoded by the same weights: a mask is the dot product of a
    query and every patch, each brought to a common width first.

    Args:
        clip_width: Channels D of CLIP's tokens.
        settings: Sizes; N queries, C channels.
    """

    def __init__(self, clip_width: int, settings: SideAdapterSettings) -> None:
        super().__init__()
        width, hidden = settings.width, settings.decoder_hidden
        self.decoded = settings.decoded
        self.sources = {side: block for block, side in settings.fusion}
        self.queries = nn.Parameter(torch.empty(1, settings.queries, width))
        self.query_positions = nn.Parameter(torch.empty(1, settings.queries, width))
        self.positions = nn.Parameter(torch.empty(1, settings.grid**2, width))
        for embedding in (self.queries, self.query_positions):
            nn.init.normal_(embedding, std=_STD)
        nn.init.trunc_normal_(self.positions, std=_STD)
        self.patches = nn.Conv2d(3, width, kernel_size=settings.patch, stride=settings.patch)
        self.blocks = nn.ModuleList(
            SideBlock(width, settings.heads, settings.hidden) for _ in range(settings.depth)
        )
        self.fusions = nn.ModuleDict({str(side): SideFusion(clip_width, width) for side in self.sources})
        widths = (width, hidden, hidden, settings.decoder_width)
        self.query_decoder = perceptron(*widths)
        self.pixel_decoder = perceptron(*widths, pointwise=True)

    def forward(self, images: Tensor, early: EarlyTokens, *, last_only: bool = False) -> Proposals:
        """Propose regions.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W multiples of the patch.
            early: CLIP's tokens of the same images.
            last_only: Decode the last of the decoded blocks alone.

        Returns:
            Masks ``(B, N, h, w)`` at one patch a pixel, the decoded queries, the last block's patches; and the same of
            the decoded blocks before it.
        """
        embedded = self.patches(images)
        height, width = embedded.shape[-2:]
        grid, count = (height, width), self.queries.shape[1]
        tokens = torch.cat([self.queries.expand(images.shape[0], -1, -1), map_to_tokens(embedded)], dim=1)
        patch_positions = resize_position_embedding(self.positions[0], grid, "bicubic", prefix=0)
        positions = torch.cat([self.query_positions[0], patch_positions])
        found, decoded = [], self.decoded[-1:] if last_only else self.decoded
        tokens = self._fuse(0, tokens + positions, early, grid)
        for number, block in enumerate(self.blocks, start=1):
            tokens = self._fuse(number, block(tokens), early, grid)
            if number in decoded:
                found.append(self._decode(tokens[:, :count], tokens_to_map(tokens[:, count:], grid)))
            tokens = tokens + positions
        *earlier, last = found
        return Proposals(last.masks, last.embeddings, last.pixels, tuple(earlier))

    def _fuse(self, number: int, tokens: Tensor, early: EarlyTokens, grid: tuple[int, int]) -> Tensor:
        if number not in self.sources:
            return tokens
        queries, patches = tokens.split([self.queries.shape[1], grid[0] * grid[1]], dim=1)
        added = self.fusions[str(number)](early.blocks[self.sources[number]][:, 1:], early.grid, grid)
        return torch.cat([queries, patches + added], dim=1)

    def _decode(self, queries: Tensor, pixels: Tensor) -> Proposals:
        embeddings = self.query_decoder(queries)
        masks = torch.einsum("bnc,bchw->bnhw", embeddings, self.pixel_decoder(pixels))
        return Proposals(masks, embeddings, pixels)
