"""Spectral-guided decoder: patches split into low and high frequencies before queries compare with them (SPT-SEG)."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.models.text_image_decoder import CrossAttention
from lexiseg.ops.grid import map_to_tokens, pad_to_windows

_LOW_SHARE = 0.9
"""Share of the heads that read low frequencies: 7 of 8."""

_WINDOW = 3


class HighLowFrequencyAttention(nn.Module):
    """High frequencies by attention within windows, low ones by attention to window averages, then a prompted gate.

    As in HiLo attention (LITv2), whose two branches are concatenated, high first. A learned prompt p then weighs every
    patch by ``max(cos(z, p), 0)``, and a learned square matrix, the identity at first, mixes its channels. Patches on
    the wrong side of p become zero and pass no gradient.

    The release fixes the grid to 32×32 and eight heads whatever its configuration says. Here any grid is padded with
    zeros below and right to whole windows, as 32 is padded to 33 there; these zeros take part in the soft-max of their
    window and in its average, as in the release.

    Args:
        width: Channels E.
        heads: Attention heads of both branches together, at least two; divides E.
    """

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.head_width = width // heads
        self.low_heads = int(heads * _LOW_SHARE)
        self.high_heads = heads - self.low_heads
        low, high = self.low_heads * self.head_width, self.high_heads * self.head_width
        self.high_qkv = nn.Linear(width, 3 * high, bias=False)
        self.low_q = nn.Linear(width, low, bias=False)
        self.low_kv = nn.Linear(width, 2 * low, bias=False)
        self.low_proj = nn.Linear(low, low)
        # The paper gives no start for the gate's prompt; any direction serves, since only its cosine counts.
        self.prompt = nn.Parameter(torch.randn(width))
        self.mixing = nn.Parameter(torch.eye(width))

    def forward(self, features: Tensor) -> Tensor:
        """Patches ``(B, E, h, w)`` to gated tokens ``(B, h*w, E)``."""
        height, width = features.shape[-2:]
        padded = pad_to_windows(features, _WINDOW)
        branches = torch.cat([self._high(padded), self._low(padded)], dim=1)
        # By index: of a slice, a program traced for any grid would ask whether it is the whole.
        down, across = (torch.arange(size, device=features.device) for size in (height, width))
        tokens = map_to_tokens(branches.index_select(2, down).index_select(3, across))
        gate = F.cosine_similarity(tokens, self.prompt, dim=-1).clamp(0, 1)
        return (tokens * gate[..., None]) @ self.mixing

    def _high(self, features: Tensor) -> Tensor:
        """Attention among the patches of each window: ``(B, E, H, W)`` to ``(B, high, H, W)``."""
        rows, columns = features.shape[-2] // _WINDOW, features.shape[-1] // _WINDOW
        windows = features.unflatten(3, (columns, _WINDOW)).unflatten(2, (rows, _WINDOW))
        windows = windows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)  # (B, rows, columns, 9, E)
        q, k, v = (
            self.high_qkv(windows).unflatten(-1, (3, self.high_heads, -1)).movedim(-3, 0).transpose(-2, -3)
        )
        # Written out, bit for bit as torch's: its own operation leaves PyTorch only with four axes, and nine patches
        # need no other. Both sides take the square root of the scale.
        scale = self.head_width**-0.25
        attended = ((q * scale) @ (k * scale).mT).softmax(-1) @ v  # (B, rows, columns, heads, 9, E / heads)
        attended = attended.transpose(-2, -3).flatten(-2).unflatten(3, (_WINDOW, _WINDOW))
        return attended.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    def _low(self, features: Tensor) -> Tensor:
        """Attention from every patch to the windows' averages: ``(B, E, H, W)`` to ``(B, low, H, W)``."""
        averages = map_to_tokens(F.avg_pool2d(features, _WINDOW))
        q = self.low_q(map_to_tokens(features)).unflatten(-1, (self.low_heads, -1)).transpose(1, 2)
        k, v = self.low_kv(averages).unflatten(-1, (2, self.low_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.low_proj(attended).transpose(1, 2).unflatten(2, features.shape[-2:])


class SpectralDecoderLayer(nn.Module):
    """Queries attend to spectrally split patches, then feed-forward, each with residual and post-norm.

    The comparison has no projections, no heads and no ``1 / sqrt(E)``; the split patches are keys and values.

    Args:
        width: Channels E.
        heads: Heads of the split.
        dropout: Everywhere in the layer.
        expansion: Hidden width of the feed-forward part over E.
    """

    def __init__(self, width: int, heads: int, dropout: float, expansion: int = 4) -> None:
        super().__init__()
        self.split = HighLowFrequencyAttention(width, heads)
        self.proj = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, expansion * width)
        self.linear2 = nn.Linear(expansion * width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        """Queries ``(B, K, E)`` after one layer on patches ``(B, E, h, w)``."""
        tokens = self.split(features)
        weights = (queries @ tokens.mT).softmax(-1)  # (B, K, h*w)
        attended = self.dropout(weights) @ tokens
        queries = self.norm_attention(queries + self.dropout(self.proj(attended)))
        hidden = self.dropout(F.relu(self.linear1(queries)))
        return self.norm_feedforward(queries + self.dropout(self.linear2(hidden)))


class SpectralGuidedDecoder(nn.Module):
    """A stack of spectral layers of which the last only compares: queries times split patches are the mask.

    Args:
        width: Channels E of queries and patches.
        layers: Layers including the comparing one.
        heads: Heads of the split of the patches; the release has eight.
        dropout: In training.
        unused_parameters: Also allocate what the release allocates and never uses: in every layer a self-attention with
            its norm, ZegCLIP's cross-attention and one projection, and in the last layer everything behind the
            comparison. Those weights get no gradient.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 3,
        heads: int = 8,
        dropout: float = 0.1,
        unused_parameters: bool = False,
    ) -> None:
        super().__init__()
        first = SpectralDecoderLayer(width, heads, dropout)
        # The release deep-copies one layer, so all layers of a decoder start equal.
        self.layers = nn.ModuleList(copy.deepcopy(first) for _ in range(layers - 1))
        self.last = copy.deepcopy(first.split)
        self.unused = None
        if unused_parameters:
            high = first.split.high_heads * first.split.head_width
            tail = copy.deepcopy(first)
            del tail.split
            self.unused = nn.ModuleList([*(_unused_layer(width, heads, high) for _ in range(layers)), tail])

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        """Queries ``(B, K, E)`` and patches ``(B, E, h, w)`` to mask logits ``(B, K, h, w)``."""
        for layer in self.layers:
            queries = layer(queries, features)
        return (queries @ self.last(features).transpose(1, 2)).unflatten(2, features.shape[-2:])


def _unused_layer(width: int, heads: int, high: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "self_attn": nn.MultiheadAttention(width, heads),
            "norm1": nn.LayerNorm(width),
            "multihead_attn": CrossAttention(width, heads, 0.0),
            "h_proj": nn.Linear(high, high),
        }
    )
