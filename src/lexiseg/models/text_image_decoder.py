"""Text-image decoder: class queries attend to patches; the last attention map is the mask (SegViT, ZegCLIP)."""

import copy

import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.ops.grid import map_to_tokens


class CrossAttention(nn.Module):
    """Multi-head attention from queries to patches, which also gives its raw map.

    Args:
        width: Channels E of queries and patches.
        heads: Attention heads; divides E.
        dropout: On attention weights.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def similarity(self, queries: Tensor, patches: Tensor) -> Tensor:
        """Mean over heads of ``q·k / sqrt(E / heads)`` before any soft-max: ``(B, K, E), (B, N, E)`` to ``(B, K, N)``.

        The mean over heads of per-head products is one product over all channels, divided by the number of heads.
        """
        scale = (queries.shape[-1] // self.heads) ** -0.5 / self.heads
        return (self.q(queries) * scale) @ self.k(patches).transpose(1, 2)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        """Attended queries ``(B, K, E)``."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, K or N, E / heads)
            for layer, x in ((self.q, queries), (self.k, patches), (self.v, patches))
        )
        dropout = self.dropout if self.training else 0.0
        return self.proj(
            F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(2)
        )


class DecoderLayer(nn.Module):
    """Cross-attention and feed-forward, each with residual and post-norm; no self-attention among classes.

    Args:
        width: Channels E.
        heads: Attention heads.
        dropout: Everywhere in the layer.
        expansion: Hidden width of the feed-forward part over E.
    """

    def __init__(self, width: int, heads: int, dropout: float, expansion: int = 4) -> None:
        super().__init__()
        self.attention = CrossAttention(width, heads, dropout)
        self.norm_attention = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, expansion * width)
        self.linear2 = nn.Linear(expansion * width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        """Queries ``(B, K, E)`` after one layer."""
        queries = self.norm_attention(queries + self.dropout(self.attention(queries, patches)))
        hidden = self.dropout(F.relu(self.linear1(queries)))
        return self.norm_feedforward(queries + self.dropout(self.linear2(hidden)))


class TextImageDecoder(nn.Module):
    """A stack of decoder layers of which the last only compares: its raw attention map is the mask.

    The released code also allocates what that form never uses: a self-attention and its norm in every layer, and
    in the last layer everything behind the comparison. Those weights get no gradient. They are left out here;
    ``unused_parameters`` allocates them, so that counts and checkpoints can be compared with the release.

    Args:
        width: Channels E of queries and patches.
        layers: Layers including the comparing one.
        heads: Attention heads.
        dropout: Of attention and residual paths in training.
        unused_parameters: See above.
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
        first = DecoderLayer(width, heads, dropout)
        # The release deep-copies one layer, so all layers of a decoder start equal.
        self.layers = nn.ModuleList(copy.deepcopy(first) for _ in range(layers - 1))
        self.last = copy.deepcopy(first.attention)
        self.unused = None
        if unused_parameters:
            attentions = (nn.MultiheadAttention(width, heads) for _ in range(layers))
            norms = (nn.LayerNorm(width) for _ in range(layers))
            tail = copy.deepcopy(first)
            del tail.attention
            self.unused = nn.ModuleList([*attentions, *norms, tail])
        else:
            del self.last.v, self.last.proj

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        """Mask logits of every class at every patch.

        Args:
            queries: ``(B, K, E)``.
            features: ``(B, E, h, w)``; its patches are keys and values.

        Returns:
            ``(B, K, h, w)``.
        """
        patches = map_to_tokens(features)
        for layer in self.layers:
            queries = layer(queries, patches)
        return self.last.similarity(queries, patches).unflatten(2, features.shape[-2:])
