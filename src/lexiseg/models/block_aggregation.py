"""What table 8 of Cascade-CLIP sets beside NGA: other ways from the blocks of one stage to one feature map."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.models.neighborhood_gaussian_aggregation import NeighborhoodGaussianAggregation
from lexiseg.ops.gaussian import NeighborhoodForm
from lexiseg.ops.grid import tokens_to_map

AggregationKind = Literal["gaussian", "sum", "concat", "attention"]


def build_aggregation(
    kind: AggregationKind,
    blocks: int,
    width: int,
    *,
    sigma: float = 1.0,
    form: NeighborhoodForm = "release",
    trained: bool = True,
) -> nn.Module:
    """The module that makes one map of a stage's blocks; a stage of one block passes it through in every kind.

    Args:
        kind: ``gaussian`` (NGA), ``sum``, ``concat`` or ``attention``.
        blocks: d, how many blocks the stage has.
        width: Channels E of every block's features.
        sigma: Width of the Gaussian in blocks; of ``gaussian`` only.
        form: Initial Gaussian; of ``gaussian`` only.
        trained: Whether the weights of ``gaussian`` and ``sum`` train; the other two always do.
    """
    if kind == "concat" and blocks > 1:
        return ConcatAggregation(blocks, width)
    if kind == "attention" and blocks > 1:
        return SelfAttentionAggregation(width)
    aggregation = NeighborhoodGaussianAggregation(blocks, sigma=sigma, form=form, trained=trained)
    if kind == "sum" and aggregation.weights is not None:
        nn.init.ones_(aggregation.weights)
    return aggregation


class ConcatAggregation(nn.Module):
    """Blocks side by side in the channels, brought back to E by one trained linear map.

    The paper gives no form. The map starts as the mean of the blocks, because a random one would throw away the
    text's space, in which every block arrives.

    Args:
        blocks: d, how many blocks the stage has.
        width: Channels E.
    """

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(blocks * width, width)
        with torch.no_grad():
            self.projection.weight.copy_(torch.eye(width).repeat(1, blocks) / blocks)
            self.projection.bias.zero_()

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Block features, d times ``(B, E, h, w)``, to one ``(B, E, h, w)``."""
        weight = self.projection.weight[:, :, None, None]
        return F.conv2d(torch.cat(list(layers), 1), weight, self.projection.bias)


class SelfAttentionAggregation(nn.Module):
    """At every patch the d blocks attend to each other; the mean of what comes out is the stage's feature.

    The paper gives no form. One head and a residual, so that an untrained attention disturbs the blocks' mean little.

    Args:
        width: Channels E.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Block features, d times ``(B, E, h, w)``, to one ``(B, E, h, w)``."""
        tokens = torch.stack(list(layers), dim=1).flatten(3).permute(0, 3, 1, 2)  # (B, h*w, d, E)
        attended = F.scaled_dot_product_attention(self.q(tokens), self.k(tokens), self.v(tokens))
        return tokens_to_map((tokens + attended).mean(2), (layers[0].shape[-2], layers[0].shape[-1]))
