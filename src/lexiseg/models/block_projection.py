"""From the tokens of an intermediate block to the joint image-text space."""

from typing import Literal

from torch import Tensor, nn

from lexiseg.clip.towers.vit import VisionTower

ProjectionKind = Literal["random", "clip", "trained"]


class BlockProjection(nn.Module):
    """Layer norm and projection of one tapped block.

    The paper does not say how an intermediate block reaches the text's space. The released code gives each block a
    layer norm and a Gaussian projection (deviation ``D**-0.5``) that are neither in CLIP's weights nor ever trained:
    ``random``, kept as the default for the published numbers' sake, and therefore part of every checkpoint.
    ``trained`` trains that pair; ``clip`` uses CLIP's own final norm and projection and has no weights.

    Args:
        tower: The frozen tower.
        kind: See above.
    """

    def __init__(self, tower: VisionTower, kind: ProjectionKind = "random") -> None:
        super().__init__()
        self._tower = (
            tower,
        )  # in a tuple, so that the frozen tower is no submodule and enters no checkpoint
        self.norm, self.projection = None, None
        if kind != "clip":
            self.norm = nn.LayerNorm(tower.width)
            self.projection = nn.Linear(tower.width, tower.embed_dim, bias=False)
            nn.init.normal_(self.projection.weight, std=tower.width**-0.5)
            self.requires_grad_(requires_grad=kind == "trained")

    def forward(self, tokens: Tensor) -> Tensor:
        """``(B, N, D)`` tokens to ``(B, N, E)``, not normalised."""
        if self.norm is None or self.projection is None:
            return self._tower[0].project(tokens)
        return self.projection(self.norm(tokens))
