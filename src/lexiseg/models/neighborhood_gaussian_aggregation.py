"""Neighbourhood Gaussian Aggregation: the blocks of one stage to one feature map (Cascade-CLIP, eq. 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lexiseg.ops.gaussian import NeighborhoodForm, neighborhood_weights


class NeighborhoodGaussianAggregation(nn.Module):
    """Weighted sum of a stage's block features, ``Z_s = sum_l W_l H_l``; neither weights nor sum are normalised.

    Args:
        blocks: d, how many blocks the stage has. A stage of one block passes it through and has no weight.
        sigma: Width of the Gaussian in blocks.
        form: Initial weights as in the released code or as in eq. 4; see :func:`neighborhood_weights`.
        trained: Whether the weights train ("NGA†" in table 8) or stay at the Gaussian ("NGA").
    """

    def __init__(
        self, blocks: int, *, sigma: float = 1.0, form: NeighborhoodForm = "release", trained: bool = True
    ) -> None:
        super().__init__()
        self.weights = None
        if blocks > 1:
            self.weights = nn.Parameter(
                neighborhood_weights(blocks, sigma=sigma, form=form), requires_grad=trained
            )

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Block features, d times ``(B, D, h, w)`` shallow to deep, to one ``(B, D, h, w)``.

        Raises:
            ValueError: Not as many feature maps as weights.
        """
        expected = 1 if self.weights is None else len(self.weights)
        if len(layers) != expected:
            raise ValueError(f"expected the features of {expected} blocks, got {len(layers)}")
        if self.weights is None:
            return layers[0]
        return torch.einsum("l,lb...->b...", self.weights, torch.stack(list(layers)))
